"""Every kind of file of a run, corrupted in six ways: `verify` names the file, and what reads it next refuses it, or
makes it again byte for byte. None is used silently."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from eval import compare, search
from eval.run import evaluate
from eval.run import test as evaluate_test
from generate.curate import curate_stage
from generate.review import samples
from generate.run import seed_stage
from synthloop import decisions, loop, page, report, trace, tracking, trials
from synthloop.errors import UserError
from synthloop.splits import prepare
from synthloop.store import Run
from synthloop.verify import verify
from tests import finished_run
from tests.generate.rows import candidate
from train.export import export
from train.sources import read_override

Reader = Callable[[Run], object]


def redo(round: int, stage: str, reader: Reader) -> Reader:
    """`reader`, when the stage is to be done anew."""

    def read(run: Run) -> None:
        run.stage(round, stage).forget()
        reader(run)

    return read


def told(id: str) -> Reader:
    return lambda run: list(trace.trace_lines(run, id))


def searched(run: Run) -> None:
    search.main(SimpleNamespace(run=run.root, round=1, to=None))  # type: ignore[arg-type]


def exported(run: Run) -> None:
    export(run, None, run.root / "exported", merge=False)


seeded: Reader = lambda run: seed_stage(run, 2)  # noqa: E731
curated = redo(1, "curate", lambda run: curate_stage(run, 1))
evaluated = redo(1, "eval", lambda run: evaluate(run, 1, None))  # type: ignore[arg-type]
decided = redo(1, "decide", lambda run: decisions.decide(run, 1))
KEPT, REFUSED = candidate(1).id, candidate(2).id

READERS: dict[str, Reader] = {
    "config.resolved.json": lambda run: Run(run.root),
    "provenance.json": exported,
    "wandb.json": lambda run: tracking.Wandb(run, "offline"),
    "data/splits.json": lambda run: prepare(run.config, run.root),
    "data/train.jsonl": seeded,
    "data/probe.jsonl": evaluated,
    "data/gate.jsonl": evaluated,
    "data/test.jsonl": redo(1, "test", lambda run: evaluate_test(run, 1, None)),  # type: ignore[arg-type]
    "round-000/eval/probe.jsonl": evaluated,
    "round-000/eval/gate.jsonl": evaluated,
    "round-000/eval/test.jsonl": redo(1, "test", lambda run: evaluate_test(run, 1, None)),  # type: ignore[arg-type]
    "round-000/collapse.json": evaluated,
    "round-000/round.json": report.build,
    "round-001/seeds.jsonl": curated,
    "round-001/candidates.jsonl": curated,
    "round-001/recipe_rejected.jsonl": curated,
    "round-001/curated.jsonl": evaluated,
    "round-001/rejected.jsonl": lambda run: samples(run, 1),
    "round-001/funnel.json": lambda run: loop.kept(run, 1),
    "round-001/fidelity.json": report.build,
    "round-001/trials/amount-0-seed-0/trial.json": redo(1, "search", searched),
    "round-001/trials/amount-1-seed-0/adapter/adapter_model.safetensors": redo(1, "search", searched),
    "round-001/search.json": lambda run: trials.in_force(run, 2),
    "round-001/train.jsonl": told(KEPT),
    "round-001/mix.json": evaluated,
    "round-001/adapter/adapter_model.safetensors": exported,
    "round-001/adapter/adapter_config.json": lambda run: loop.keep_best(run, 1),
    "round-001/eval/scores.json": decided,
    "round-001/eval/test.jsonl": lambda run: compare.best_predictions(run.root),
    "round-001/eval/test.json": report.build,
    "round-001/collapse.json": decided,
    "round-001/failures.jsonl": seeded,
    "round-001/round.json": lambda run: run.best_round(),
    "round-001/stages/eval.json": decided,
    "round-001/stages/curate.json": lambda run: loop._refuse_changes(run, run.config, []),
    "round-001/stages/train.json": exported,
    "round-002/mix_override.json": lambda run: read_override(run, 2),
    "round-002/seed_override.json": seeded,
    "journal.sqlite": told(KEPT),
}

REPAIRS: dict[str, Reader] = {
    "metrics.jsonl": lambda run: [tracking.log_round(run, round) for round in (0, 1)],
    "report.json": report.write,
    "report.html": lambda run: page.write(run, report.build(run)),
    "best_adapter/adapter_model.safetensors": lambda run: loop.keep_best(run, 1),
    "best_adapter/adapter_config.json": lambda run: loop.keep_best(run, 1),
    "best_adapter/README.md": lambda run: loop.keep_best(run, 1),
    "best_adapter/provenance.json": lambda run: loop.keep_best(run, 1),
    "round-002/mix_override.json": lambda run: decisions.hand_over(run, 2),
    "round-002/seed_override.json": lambda run: decisions.hand_over(run, 2),
}

READ_BY_NOTHING = ("round-001/verifiers.json", "round-001/trainer_log.jsonl")


def digit(data: bytes) -> bytes:
    places = [place for place, byte in enumerate(data) if byte in b"0123456789"]
    place = min(places, key=lambda place: abs(place - middle(data)))
    return data[:place] + str((data[place] - 48 + 1) % 10).encode() + data[place + 1 :]


def letter(data: bytes) -> bytes:
    places = [place for place, byte in enumerate(data) if chr(byte).isascii() and chr(byte).islower()]
    place = min(places, key=lambda place: abs(place - middle(data)))
    return data[:place] + (b"x" if data[place] != ord("x") else b"y") + data[place + 1 :]


def not_utf8(data: bytes) -> bytes:
    return data[: middle(data)] + b"\xff" + data[middle(data) + 1 :]


def middle(data: bytes) -> int:
    """Half-way; in the journal, where most is empty space, in a reply."""
    return data.index(b"42 kites") if b"42 kites" in data and data.startswith(b"SQLite") else len(data) // 2


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def cut_at_a_line_end(data: bytes) -> bytes:
    """The last line is gone; of a binary file its last quarter."""
    end = data.rstrip(b"\n").rfind(b"\n") + 1
    return data[:end] if end and not data.startswith(b"SQLite") else data[: 3 * len(data) // 4]


def emptied(data: bytes) -> bytes:
    return b""


CORRUPTIONS = (digit, letter, not_utf8, cut, cut_at_a_line_end, emptied)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished_run.build(tmp_path_factory.mktemp("finished") / "run")


def corrupted(finished: Run, name: str, corrupt: Callable[[bytes], bytes], root: Path) -> Run:
    """A copy of the run with one file corrupted. What is not changed is linked, the journal copied."""
    shutil.copytree(finished.root, root, copy_function=os.link)
    for file in {root / name, root / "journal.sqlite"}:
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(corrupt(data) if file == root / name else data)
    changed = (root / name).read_bytes()
    assert changed != (finished.root / name).read_bytes(), "nothing was corrupted"
    run = Run(finished.root)
    run.root = root
    return run


def reported(run: Run) -> str:
    """What `synthloop verify` says of the run."""
    try:
        return "\n".join(verify(Run(run.root)).problems)
    except UserError as error:
        return str(error)


def test_a_sound_run_is_as_recorded(finished: Run) -> None:
    found = verify(finished)
    assert found.problems == []
    assert (found.files, found.stages) == (40, 13)


def test_the_table_covers_every_kind_of_file_and_168_corruptions(finished: Run) -> None:
    kinds = {*READERS, *REPAIRS, *READ_BY_NOTHING}
    assert len(kinds) * len(CORRUPTIONS) >= 168
    there = {kind_of(path.relative_to(finished.root)) for path in finished.root.rglob("*") if path.is_file()}
    assert there - {kind_of(Path(name)) for name in kinds} <= {"run.lock"}


def kind_of(path: Path) -> str:
    return "stages" if path.parent.name == "stages" else path.name


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", [name for name in READERS if name != "journal.sqlite"])
def test_a_corrupt_file_is_named_and_refused(
    finished: Run, tmp_path: Path, name: str, corrupt: Callable[[bytes], bytes]
) -> None:
    run = corrupted(finished, name, corrupt, tmp_path / "run")
    assert name in reported(run)
    with pytest.raises(UserError) as caught:
        READERS[name](run)
    assert name in str(caught.value)


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", REPAIRS)
def test_a_corrupt_file_is_named_and_made_again_byte_for_byte(
    finished: Run, tmp_path: Path, name: str, corrupt: Callable[[bytes], bytes]
) -> None:
    run = corrupted(finished, name, corrupt, tmp_path / "run")
    assert name in reported(run)
    REPAIRS[name](run)
    assert (run.root / name).read_bytes() == (finished.root / name).read_bytes()


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", READ_BY_NOTHING)
def test_a_corrupt_file_that_only_people_read_is_named(
    finished: Run, tmp_path: Path, name: str, corrupt: Callable[[bytes], bytes]
) -> None:
    assert name in reported(corrupted(finished, name, corrupt, tmp_path / "run"))


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda one: one.__name__)
def test_a_corrupt_journal_is_named_and_neither_quoted_nor_counted(
    finished: Run, tmp_path: Path, corrupt: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    run = corrupted(finished, "journal.sqlite", corrupt, tmp_path / "run")
    assert "journal.sqlite" in reported(run)
    if corrupt is emptied:  # to SQLite a new database: nothing in it to quote, and what was spent stays spent
        assert any("not in the journal" in line for line in trace.trace_lines(run, KEPT))
        assert decisions.spending(run)["teacher_tokens"] == decisions.spending(finished)["teacher_tokens"] == 48
        assert "replies were lost" in caplog.text
        return
    for reader in (told(KEPT), decisions.spending):
        with pytest.raises(UserError, match="journal.sqlite"):
            reader(run)
