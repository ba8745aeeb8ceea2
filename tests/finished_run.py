"""A finished run with every kind of file a real one has, in a second: real store, journal, decisions and report, and
made-up rows. Round 1 was accepted and the collapse guard spoke; round 2 has begun."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from synthloop import loop, page, report, tracking
from synthloop.config import Config, dump, parse
from synthloop.decisions import decide, hand_over
from synthloop.journal import Journal
from synthloop.provenance import write_provenance
from synthloop.records import Completion, Failure, Prediction, Rejection, Request, Row
from synthloop.splits import prepare
from synthloop.store import Run, Writer, read_rows, write_json, write_rows
from synthloop.trials import Trained, Trial
from tests.fake_stages import contents
from tests.generate.rows import candidate, example, seed

CONFIG = {
    "name": "finished",
    "rounds": 2,
    "task": {"name": "word_problems", "num_train": 60, "num_test": 12},
    "splits": {"train": 20, "probe": 12, "gate": 12},
    "student": {"model": "m"},
    "roles": {"teacher": {"model": "t"}},
    "generate": {"recipes": [{"name": "repair"}, {"name": "explore"}], "allocation": "thompson"},
    "mix": {"policy": "adaptive"},
    "collapse": {"action": "shrink"},
}
SCRIPT = {"collapse": {"1": "warn"}}
KEY = "0" * 32


def build(root: Path) -> Run:
    """The run, made at `root`."""
    write_json(root / "config.resolved.json", dump(parse(Config, CONFIG, "x")), sealed=True)
    run = Run(root)
    write_provenance(run)
    prepare(run.config, root)
    wandb = tracking.Wandb(run, "offline")
    wandb._open = lambda: SimpleNamespace(log=lambda row: None, alert=lambda **said: None)  # type: ignore[method-assign]
    for round in (0, 1):
        hand_over(run, round)
        if round > 0:
            _make_and_train(run)
        _evaluate(run, round)
        decide(run, round)
        wandb.log(tracking.log_round(run, round))
    hand_over(run, 2)
    loop.keep_best(run, 1)
    page.write(run, report.write(run))
    return run


def _make_and_train(run: Run) -> None:
    request = Request(id="r", role="teacher", messages=({"role": "user", "content": "How many kites?"},))
    reply = Completion(
        request_id="r", text="He has 42 kites.", finish_reason="stop", prompt_tokens=31, completion_tokens=17
    )
    with Journal(run.journal_path, "1/generate") as journal:
        journal.put([(KEY, "t", request, reply)])
    kept, refused = candidate(1, lineage={"requests": [KEY]}), candidate(2)
    refusal = Rejection(
        filter="verify", reason="wrong", candidate_id=refused.id, seed_id="s", recipe="repair", candidate=refused
    )
    row = Row(id=kept.id, source="synthetic", messages=kept.messages, completion=kept.completion, num_tokens=31)
    folder, data = run.round_dir(1), run.split("train")
    with run.stage(1, "seed").write([data, run.round_dir(0) / "failures.jsonl"]) as out:
        write_rows(out.folder / "seeds.jsonl", [seed(1), seed(2)])
    with run.stage(1, "generate").write([folder / "seeds.jsonl"]) as out:
        write_rows(out.folder / "candidates.jsonl", [kept, refused])
        write_rows(out.folder / "recipe_rejected.jsonl", [refusal, refusal])
        counts = ("requests", "candidates", "prompt_tokens", "completion_tokens", "truncated")
        out.notes.update(dict.fromkeys(counts, 17), tokens_by_recipe={"repair": 17})
    with run.stage(1, "curate").write([folder / "candidates.jsonl", folder / "recipe_rejected.jsonl"]) as out:
        write_rows(out.folder / "curated.jsonl", [kept, candidate(3)])
        write_rows(out.folder / "rejected.jsonl", [refusal, refusal])
        write_json(out.folder / "fidelity.json", {"summary": "12 differences", "comparisons": [{"flagged": True}]})
        write_json(out.folder / "verifiers.json", {"recipes": [{"recipe": "repair", "errors": 12}]})
        _fake(out, "curate", 1)
    with run.stage(1, "trials").write([data, folder / "curated.jsonl"]) as out:
        for trial in (Trial(axis="amount", value=value, seed=0) for value in (0.0, 1.0)):
            trained = Trained(trial=trial, rows=12, synthetic_rows=6, tokens=120, steps=12, seconds=1.25)
            _adapter(out.folder / "trials" / trial.name / "adapter")
            write_json(out.folder / "trials" / trial.name / "trial.json", trained.model_dump(), sealed=True)
    with run.stage(1, "search").write([folder / "trials", run.split("gate")]) as out:
        _fake(out, "search", 1)
    with run.stage(1, "mix").write([data, folder / "curated.jsonl", folder / "search.json"]) as out:
        write_rows(out.folder / "train.jsonl", [row, row.model_copy(update={"id": "another"})])
        _fake(out, "mix", 1)
    with run.stage(1, "train").write([folder / "train.jsonl"]) as out:
        _adapter(out.folder / "adapter")
        (out.folder / "trainer_log.jsonl").write_text('{"step": 11, "loss": 1.25}\n{"step": 12, "loss": 1.21}\n')


def _adapter(folder: Path) -> None:
    write_json(folder / "adapter_config.json", {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj"]})
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 8)


def _evaluate(run: Run, round: int) -> None:
    adapter = [run.round_dir(1) / "adapter"] if round else []
    for stage, splits in (("eval", ("probe", "gate")), ("test", ("test",))):
        with run.stage(round, stage).write([*map(run.split, splits), *adapter]) as out:
            for split in splits:
                rows = read_rows(run.split(split), type(example()))
                write_rows(out.folder / "eval" / f"{split}.jsonl", [_prediction(one.id) for one in rows])
            if stage == "eval":
                write_rows(out.folder / "failures.jsonl", [_failure(1), _failure(2)])
            _fake(out, stage, round)


def _fake(out: Writer, stage: str, round: int) -> None:
    for file, value in contents(stage, round, SCRIPT).items():
        write_json(out.folder / file, value)


def _prediction(id: str) -> Prediction:
    facts: dict[str, Any] = {"parsed": "12", "value": 1.0, "correct": True, "truncated": False}
    return Prediction(id=id, slice=None, response="#### 12", prompt_tokens=31, completion_tokens=17, **facts)


def _failure(number: int) -> Failure:
    one = example(number)
    return Failure(id=one.id, split="probe", example=one, response="#### 99", parsed="99", truncated=False)
