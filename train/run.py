"""Train the student: rows in, a LoRA adapter out. Runs under `accelerate launch`, in the loop or by itself.

    accelerate launch --config_file configs/accelerate/cpu.yaml -m train.run --run runs/quickstart --round 2
    accelerate launch --config_file configs/accelerate/ddp.yaml -m train.run \
        --config job.yaml --data rows.jsonl --output out [train.args.learning_rate=1e-4 ...]

`job.yaml` has the keys `student`, `train` and `seed` of a loop's config; a whole loop config is read too (the other
keys are checked and not used). For the formats of `rows.jsonl` see `train/rows.py`. The output is `adapter/`,
`checkpoints/`, `trainer_log.jsonl` (one line a logging step) and, by itself, `train.json` (the record a stage would
keep). The same command again resumes from the last complete checkpoint, and on a CPU ends with the weights of a run
that was never stopped; once `train.json` exists it does nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from synthloop import card, lora, plugins
from synthloop.chat_template import show_time
from synthloop.child import open_run, run_child, stage_parser
from synthloop.config import Config, TrainJob, dump, parse
from synthloop.conversations import Unread
from synthloop.errors import UserError
from synthloop.files import flush_tree
from synthloop.folders import refuse_foreign
from synthloop.launch import refuse_lone_process, use_one_gpu
from synthloop.provenance import versions
from synthloop.randomness import derive_seed
from synthloop.schema import describe
from synthloop.store import Stage, Writer, read_json, sha256, write_json
from synthloop.yaml_file import read_yaml
from train.checkpoints import interval, latest_complete, remove_incomplete
from train.ends import write_ends
from train.objectives import ObjectiveConfig
from train.plain_lora import Tensors, initial_weights, save_plain

log = logging.getLogger("synthloop.train")


def configure(job: TrainJob, output: Path, seed: int) -> tuple[ModuleType, ObjectiveConfig]:
    """The objective's module and settings. Raises `UserError` naming every setting that the objective refuses, or that
    the student's engine would drop."""
    objective = plugins.load("objective", job.train.objective)
    student = job.student.settings
    try:
        config: ObjectiveConfig = objective.Config(
            args=job.train.args,
            lora=job.train.lora,
            quantization=job.train.quantization,
            model=job.student.model,
            revision=job.student.revision,
            tokenizer=student.get("tokenizer"),
            chat_template_kwargs=student.get("chat_template_kwargs") or {},
            output_dir=output / "checkpoints",
            seed=seed,
        )
    except ValidationError as error:
        raise UserError("\n".join(describe(error, objective.Config, "train."))) from error
    if mistakes := list(lora.mistakes(config.lora, job.student.engine, config.quantization)):
        raise UserError("\n".join(mistakes))
    return objective, config


def train_round(arguments: argparse.Namespace) -> None:
    """The stage `train` of a round. Raises `UserError`."""
    run = open_run(arguments)
    stage = run.stage(arguments.round, "train")
    if stage.is_complete:
        log.info("train: round %d is already done.", arguments.round)
        return
    data = stage.folder / "train.jsonl"
    objective, config = configure(run.config, stage.partial, derive_seed(run.config.seed, arguments.round, "train"))
    unread = Unread()
    rows = objective.read(data, unread)
    args = objective.build_args(config)
    refuse_lone_process(run.config.train.accelerate, args.distributed_state.num_processes)
    with stage_writer(stage, [data], args.distributed_state) as out:
        out.notes.update(fit(objective, config, args, rows, out.folder), **unread.facts)


def train_file(arguments: argparse.Namespace) -> None:
    """Training by itself. Raises `UserError`."""
    job = read_job(arguments.config, arguments.overrides)
    objective, config = configure(job, arguments.output, job.seed)
    unread = Unread()
    rows = objective.read(arguments.data, unread)
    data = {"sha256": sha256(arguments.data), "rows": len(rows), **unread.facts}
    settings = {"settings": dump(job), "data": data}
    if (arguments.output / "train.json").exists():
        refuse_other(arguments.output, settings)
        log.info("train: %s is already done.", arguments.output)
        return
    args = objective.build_args(config)
    refuse_lone_process(job.train.accelerate, args.distributed_state.num_processes)
    with folder_writer(arguments.output, settings, args.distributed_state) as out:
        out.notes.update(fit(objective, config, args, rows, out.folder))


def read_job(path: Path, overrides: list[str]) -> TrainJob:
    """The job at `path`: `TrainJob` keys, or a whole loop config (recognised by its `task`). Raises `UserError`."""
    data = read_yaml(path, overrides)
    if "task" not in data:
        return parse(TrainJob, data, str(path))
    whole = parse(Config, {"name": path.stem, **data}, str(path))
    return TrainJob(student=whole.student, train=whole.train, seed=whole.seed)


def fit(objective: ModuleType, config: ObjectiveConfig, args: Any, rows: list[Any], folder: Path) -> dict[str, Any]:
    """Train, resuming where a killed process stopped, and save the adapter into `folder`; facts for the record.

    Raises:
        UserError: there is nothing to train on.
        StageFailed: the training diverged.
    """
    from train.measure import write_logprobs

    state = args.distributed_state
    started = time.monotonic()
    trainer, facts = objective.build_trainer(config, args, rows)
    warn_of_precision(args, trainer.accelerator.mixed_precision)
    refuse_no_batch(trainer)
    initial = initial_weights(trainer.model, config.lora)
    checkpoint = prepare(trainer, config, folder)
    ready, ready_cpu = time.monotonic(), time.process_time()
    result = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    trained, trained_cpu = time.monotonic(), time.process_time()
    save_adapter(trainer, folder / "adapter", initial)
    saved = time.monotonic()
    write_logprobs(trainer, config, rows, folder)
    measured = time.monotonic()
    if state.is_main_process:
        write_ends(trainer.model, trainer.processing_class, config.chat_template_kwargs, folder / "adapter")
        num_trained = facts["rows"] - facts.get("lost_rows", 0) - facts.get("equal_rows", 0)
        write_card(objective, config, num_trained, folder / "adapter")
    return {
        **facts,
        "trainable_parameters": num_trainable(trainer.model),
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "final_loss": last_loss(trainer.state.log_history),
        "training_seed": args.seed,
        "devices": state.num_processes,
        "mixed_precision": trainer.accelerator.mixed_precision,
        "resumed_from_step": 0 if checkpoint is None else int(checkpoint.name.removeprefix("checkpoint-")),
        "setup_seconds": round(ready - started, 3),
        "training_seconds": round(trained - ready, 3),
        "training_cpu_seconds": round(trained_cpu - ready_cpu, 3),
        "logprobs_seconds": round(measured - saved, 3),
        "samples_per_second": result.metrics["train_samples_per_second"],
        "versions": versions(),
    }


def warn_of_precision(args: Any, used: str) -> None:
    """Tell of a precision that Accelerate's config chose over `train.args`."""
    asked = "bf16" if args.bf16 else "fp16" if args.fp16 else "no"
    if used != asked:
        log.warning(
            "train: train.args asks for mixed precision '%s' and the accelerate config for '%s', which is used. Set "
            "mixed_precision there, or train.args.bf16, so that they agree.",
            *(asked, used),
        )


def prepare(trainer: Any, config: ObjectiveConfig, folder: Path) -> Path | None:
    """Give the trainer what happens beside its steps; the checkpoint to resume from, None where there is none."""
    from train.callbacks import Checkpoints, Progress, TrainerLog

    args = trainer.args
    state = args.distributed_state
    if "save_steps" not in config.args and "save_strategy" not in config.args:
        args.save_steps = interval(num_steps(trainer), args.logging_steps)
    trainer_log = TrainerLog(folder / "trainer_log.jsonl")
    trainer_log.trainer = trainer
    for callback in (Checkpoints(state.wait_for_everyone), trainer_log, Progress()):
        trainer.add_callback(callback)
    if state.is_main_process:
        remove_incomplete(config.output_dir)
    state.wait_for_everyone()
    checkpoint = latest_complete(config.output_dir)
    if checkpoint is not None:
        log.info("train: resuming from %s.", checkpoint)
    return checkpoint


def refuse_no_batch(trainer: Any) -> None:
    """Raise `UserError` where `dataloader_drop_last` leaves no batch: nothing would be trained."""
    args, rows = trainer.args, len(trainer.train_dataset)
    batch = args.per_device_train_batch_size * args.world_size
    if args.dataloader_drop_last and rows < batch:
        raise UserError(
            f"train.args.dataloader_drop_last is true, and the {rows} rows are fewer than one batch of {batch}: "
            "nothing would be trained on. Set it to false, or lower train.args.per_device_train_batch_size."
        )


def num_trainable(model: Any) -> int:
    """Trainable parameters; of one that ZeRO-3 has partitioned, which holds no elements here, its whole size."""
    return sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters() if p.requires_grad)


def num_steps(trainer: Any) -> int:
    """Optimizer steps the trainer will take (rows may have been packed or dropped since they were read)."""
    args = trainer.args
    if args.max_steps > 0:
        return int(args.max_steps)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return max(1, int(args.num_train_epochs * -(-len(trainer.train_dataset) // batch)))


def last_loss(history: list[dict[str, Any]]) -> float | None:
    """The mean loss of the last logging window."""
    return next((entry["loss"] for entry in reversed(history) if "loss" in entry), None)


def save_adapter(trainer: Any, folder: Path, initial: Tensors) -> None:
    """Write the adapter, as plain LoRA, and the tokenizer into `folder`, so that the same weights give the same bytes
    everywhere. Raises `StageFailed` where a weight is not finite."""
    trainer.save_model(str(folder))
    if not trainer.args.should_save:
        return
    save_plain(folder, initial)
    # A pickle of the arguments, paths included: of no use to whoever loads the adapter.
    (folder / "training_args.bin").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    adapter_config = read_json(path)
    for key, value in adapter_config.items():
        if isinstance(value, list):  # PEFT keeps names in sets, whose order changes from process to process
            adapter_config[key] = sorted(value, key=json.dumps)
    write_json(path, adapter_config)


def write_card(objective: ModuleType, config: ObjectiveConfig, num_rows: int, folder: Path) -> None:
    """A true model card in place of PEFT's blank one."""
    told = card.training_card(config.model, objective.__name__.rpartition(".")[2], num_rows, folder)
    (folder / "README.md").write_text(told, encoding="utf-8")


@contextmanager
def stage_writer(stage: Stage, inputs: list[Path], state: Any) -> Iterator[Writer]:
    """`stage.write(inputs)` by the main process; the others get the same folder, and notes that nobody keeps."""
    if not state.is_main_process:
        state.wait_for_everyone()
        yield Writer(stage.partial, {})
        state.wait_for_everyone()
        return
    with stage.write(inputs) as out:
        state.wait_for_everyone()
        yield out
        state.wait_for_everyone()


@contextmanager
def folder_writer(folder: Path, settings: dict[str, Any], state: Any) -> Iterator[Writer]:
    """A plain output folder that remembers what it was made from, and when: templates that read the clock are told that
    date when it is resumed too. `train.json` is written last, by the main process.

    Raises:
        UserError: the folder holds work made from other settings or data.
    """
    mark = folder / "train.partial.json"
    if state.is_main_process:
        refuse_foreign(folder, [mark.name], "Choose another --output.")
        if mark.exists():
            refuse_other(folder, settings)
        else:
            write_json(mark, {**settings, "started": datetime.now().isoformat(timespec="seconds")})
    state.wait_for_everyone()
    made_from = read_json(mark)
    if "started" in made_from:  # not in a folder of an earlier version
        show_time(datetime.fromisoformat(made_from["started"]))
    out = Writer(folder, {})
    yield out
    state.wait_for_everyone()
    if state.is_main_process:
        flush_tree(folder)
        write_json(folder / "train.json", {**made_from, **out.notes})
        mark.unlink()


def refuse_other(folder: Path, settings: dict[str, Any]) -> None:
    """Raise `UserError` where `folder` was made from other settings or data than `settings`."""
    path = next(path for path in (folder / "train.json", folder / "train.partial.json") if path.exists())
    found = read_json(path)
    changed = [key for key in settings if found.get(key) != settings[key]]
    if changed:
        raise UserError(
            f"{folder} was made from other {' and '.join(changed)} (see {path}). "
            "Choose another --output, or delete that folder to train anew."
        )


def main(arguments: argparse.Namespace) -> None:
    if arguments.run is not None:
        train_round(arguments)
        return
    for option in ("config", "data", "output"):
        if getattr(arguments, option) is None:
            raise UserError(f"--{option} is missing. Expected --run DIR --round N, or --config, --data and --output.")
    train_file(arguments)


def parser() -> argparse.ArgumentParser:
    options = stage_parser(__doc__)
    options.add_argument("--config", type=Path, help="YAML with student, train and seed")
    options.add_argument("--data", type=Path, help="JSONL of training rows")
    options.add_argument("--output", type=Path, help="folder for the adapter and checkpoints")
    options.add_argument("overrides", nargs="*", metavar="key=value", help="settings that override the YAML")
    return options


if __name__ == "__main__":
    # Threads that wait for one another by spinning take the cores from whatever else runs: beside one busy process a
    # two-core training took 137 s instead of 7 s. Read when torch is first imported, which is after this line.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    use_one_gpu()
    run_child(main, parser=parser())
