"""How fast `train.run` trains beside a bare TRL script with the same settings, and where one step's time goes.

    python scripts/bench_train.py --model quickstart/student
    python scripts/bench_train.py --model quickstart/student --profile
    python scripts/bench_train.py --model Qwen/Qwen2.5-0.5B-Instruct --accelerate configs/accelerate/single_gpu.yaml

Each arm is a process of its own, started by `accelerate launch`; the arms take turns, and which one goes first
alternates. Printed for each pair, then as a median with its range:

- training samples a second, as the trainer itself reports them (model loading and tokenising left out);
- CPU seconds of that training, and of the whole process: what other work on the machine disturbs least;
- wall seconds from the start of the process to its end, imports included;
- the loss of the last logging window, which must be the same in both.

The bare arm is `BARE_SCRIPT` below: what the TRL documentation would have a person write.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import yaml

from eval.tasks import word_problems

ROOT = Path(__file__).parents[1]

BARE_SCRIPT = """
import json
import sys
import time

from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

job = json.load(open(sys.argv[1]))
trainer = SFTTrainer(
    model=job["model"],
    args=SFTConfig(output_dir=job["output"], **job["args"]),
    train_dataset=load_dataset("json", data_files=job["data"], split="train"),
    peft_config=LoraConfig(task_type="CAUSAL_LM", **job["lora"]),
)
started = time.process_time()
result = trainer.train()
cpu = time.process_time() - started
trainer.save_model()
loss = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1]
facts = {"samples_per_second": result.metrics["train_samples_per_second"], "training_cpu_seconds": cpu}
json.dump({**facts, "final_loss": loss}, open(job["output"] + "/facts.json", "w"))
"""

PROFILE_SCRIPT = """
import sys
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, record_function, schedule
from transformers import TrainerCallback

from train.run import configure, read_job

job = read_job(Path(sys.argv[1]), [])
objective, config = configure(job, Path(sys.argv[3]), job.seed)
args = objective.build_args(config)
args.max_steps = 14
trainer, _ = objective.build_trainer(config, args, objective.read(Path(sys.argv[2])))
activities = [ProfilerActivity.CPU] + ([] if args.use_cpu else [ProfilerActivity.CUDA])
profiler = profile(activities=activities, schedule=schedule(wait=3, warmup=1, active=10))


class Step(TrainerCallback):
    def on_step_end(self, *_, **__):
        profiler.step()


def named(function, name):
    def wrapper(*arguments, **keywords):
        with record_function(name):
            return function(*arguments, **keywords)

    return wrapper


trainer.compute_loss = named(trainer.compute_loss, "phase: forward")
trainer.accelerator.backward = named(trainer.accelerator.backward, "phase: backward")
trainer.add_callback(Step())
with profiler:
    trainer.train()
averages = profiler.key_averages()
phases = {event.key: event.cpu_time_total for event in averages}
total = phases["ProfilerStep*"]
for name, spent in sorted(phases.items(), key=lambda item: -item[1]):
    if name.startswith(("phase: ", "Optimizer.step", "enumerate(DataLoader)")):
        print(f"{spent / total:6.1%} {spent / 10_000:8.1f} ms a step  {name}")
print(averages.table(sort_by="self_cpu_time_total" if args.use_cpu else "self_device_time_total", row_limit=18))
"""


class Measurement(NamedTuple):
    """One training: what the trainer says of itself, and what its process cost."""

    samples_per_second: float
    training_cpu_s: float
    process_cpu_s: float
    wall_s: float
    final_loss: float


def write_rows(path: Path, count: int) -> None:
    """Word problems as prompt and completion, in the format both arms read."""
    config = word_problems.Config(num_train=count)
    with path.open("w", encoding="utf-8") as stream:
        for example in islice(word_problems.load(config, "train"), count):
            completion = [{"role": "assistant", "content": example.completion}]
            stream.write(json.dumps({"prompt": list(example.messages), "completion": completion}) + "\n")


def write_jobs(folder: Path, arguments: argparse.Namespace) -> None:
    """The same settings for both arms: `job.yaml` for train.run, `bare.json` for the bare script."""
    args = {
        "per_device_train_batch_size": 16,
        "num_train_epochs": arguments.epochs,
        "learning_rate": 1e-3,
        "max_length": 256,
        "logging_steps": 10,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        **({"use_cpu": True, "bf16": False} if arguments.accelerate.stem == "cpu" else {}),
    }
    lora = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    job = {"student": {"model": arguments.model}, "train": {"args": args, "lora": lora}, "seed": 7}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    bare = {"model": arguments.model, "data": str(folder / "rows.jsonl"), "output": str(folder / "bare"), "lora": lora}
    bare["args"] = {**args, "seed": 7, "report_to": "none", "disable_tqdm": True}
    (folder / "bare.json").write_text(json.dumps(bare))
    (folder / "bare_trl.py").write_text(BARE_SCRIPT)
    (folder / "profile_step.py").write_text(PROFILE_SCRIPT)


def run_arm(name: str, folder: Path, accelerate: Path, log: Path) -> Measurement:
    """Train once. Raises `SystemExit` with the end of the log when the process fails."""
    output = folder / name
    output.mkdir()
    launch = [str(Path(sys.executable).with_name("accelerate")), "launch", "--config_file", str(accelerate)]
    ours = ["-m", "train.run", "--config", str(folder / "job.yaml"), "--data", str(folder / "rows.jsonl")]
    bare = [str(folder / "bare_trl.py"), str(folder / "bare.json")]
    command = [*launch, *(bare if name == "bare" else [*ours, "--output", str(output)])]
    started = time.perf_counter()
    status, cpu_s = _wait(command, log)
    wall_s = time.perf_counter() - started
    if status != 0:
        raise SystemExit(f"The {name} arm failed:\n{log.read_text()[-3000:]}")
    facts = json.loads((output / ("facts.json" if name == "bare" else "train.json")).read_text())
    for path in sorted(output.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    output.rmdir()
    return Measurement(facts["samples_per_second"], facts["training_cpu_seconds"], cpu_s, wall_s, facts["final_loss"])


def _wait(command: list[str], log: Path) -> tuple[int, float]:
    """(exit status, CPU seconds of the process and its children). Both arms let waiting threads sleep."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    before = os.times()
    with log.open("w") as stream:
        output = [(os.POSIX_SPAWN_DUP2, stream.fileno(), 1), (os.POSIX_SPAWN_DUP2, stream.fileno(), 2)]
        pid = os.posix_spawn(command[0], command, environment, file_actions=output)
    _, status = os.waitpid(pid, 0)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return os.waitstatus_to_exitcode(status), used


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    """Run the arms in turn and print every pair, then the medians of the pairs' ratios."""
    pairs: list[tuple[Measurement, Measurement]] = []
    print(f"{'':8}{'samples/s':>20}{'training CPU s':>20}{'process CPU s':>20}{'wall s':>20}{'final loss':>24}")
    print(f"{'pair':8}" + f"{'ours':>10}{'bare':>10}" * 4 + f"{'ours':>12}{'bare':>12}")
    for index in range(arguments.pairs):
        order = ("ours", "bare") if index % 2 else ("bare", "ours")
        measured = {name: run_arm(name, folder, arguments.accelerate, folder / "log.txt") for name in order}
        ours, bare = measured["ours"], measured["bare"]
        pairs.append((ours, bare))
        numbers = "".join(f"{ours[n]:10.2f}{bare[n]:10.2f}" for n in range(4))
        print(f"{index + 1:<8}{numbers}{ours.final_loss:12.6f}{bare.final_loss:12.6f}", flush=True)
    for field, name in enumerate(("samples/s", "training CPU s", "process CPU s", "wall s")):
        ratios = [ours[field] / bare[field] for ours, bare in pairs]
        print(
            f"{name}, ours / bare: median {statistics.median(ratios):.3f} "
            f"(range {min(ratios):.3f} to {max(ratios):.3f}, n={len(ratios)} pairs)"
        )
    best = [max(pair[arm].samples_per_second for pair in pairs) for arm in (0, 1)]
    print(f"samples/s, best of ours / best of bare (other work only ever slows an arm): {best[0] / best[1]:.3f}")
    worst = max(abs(ours.final_loss - bare.final_loss) for ours, bare in pairs)
    print(f"final loss: largest difference {worst:.2e}")


def profile(arguments: argparse.Namespace, folder: Path) -> None:
    """Print what ten steps (after four others) spend their time on, from torch.profiler."""
    launch = [str(Path(sys.executable).with_name("accelerate")), "launch", "--config_file", str(arguments.accelerate)]
    files = [str(folder / name) for name in ("profile_step.py", "job.yaml", "rows.jsonl", "profiled")]
    status, _ = _wait([*launch, *files], folder / "log.txt")
    print((folder / "log.txt").read_text())
    raise SystemExit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="quickstart/student", help="folder or hub id of a chat model")
    parser.add_argument("--accelerate", type=Path, default=Path("configs/accelerate/cpu.yaml"))
    parser.add_argument("--pairs", type=int, default=5, help="how often each arm runs")
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="profile a step instead of comparing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", arguments.rows)
        write_jobs(folder, arguments)
        profile(arguments, folder) if arguments.profile else compare(arguments, folder)


if __name__ == "__main__":
    main()
