"""`synthloop verify` from the command line. Every kind of file in every way: tests/test_corruption.py."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from synthloop import cli
from synthloop.records import Review
from synthloop.store import Run, write_json, write_rows
from tests import finished_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run.build(tmp_path_factory.mktemp("finished") / "run").root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def verified(root: Path, code: int) -> str:
    done = CliRunner().invoke(cli.app, ["verify", str(root)])
    assert done.exit_code == code, done.output
    return done.output


def test_a_sound_run_is_told_in_one_line(root: Path) -> None:
    write_rows(root / "reviews.jsonl", [Review(id="x", round=1, decision="keep")])
    (root / "round-001" / "logs").mkdir()
    (root / "round-002" / "mix.partial").mkdir(parents=True)
    (root / "round-002" / "mix.partial" / "train.jsonl").touch()
    assert verified(root, 0) == "40 files of 13 stages as recorded.\n"


def test_each_problem_is_a_line_with_file_stage_and_remedy(root: Path) -> None:
    (root / "round-001" / "mix.json").unlink()
    (root / "round-001" / "seeds.jsonl").write_text("{}\n")
    (root / "data" / "gate.jsonl").write_text("{}\n")
    lines = verified(root, 2).splitlines()
    assert len(lines) == 3
    for line, name, stage, remedy in zip(
        lines,
        ("data/gate.jsonl: changed", "mix.json: is missing", "seeds.jsonl: changed"),
        ("the split of the data", "stage mix of round 1", "stage seed of round 1"),
        ("delete", "--from 1/mix", "--from 1/seed"),
        strict=True,
    ):
        assert name in line
        assert stage in line
        assert remedy in line


def test_a_stranger_is_named_where_a_stage_would_read_it(root: Path) -> None:
    (root / "round-001" / "extra.jsonl").touch()
    (root / "round-001" / "trials" / "amount-9-seed-0").mkdir()
    write_json(root / "round-001" / "trials" / "amount-9-seed-0" / "trial.json", {})
    (root / "data" / "more.jsonl").touch()
    (root / "round-007").mkdir()
    (root / "round-002.copy").mkdir()  # the name of no round: read by nothing
    told = verified(root, 2)
    assert "more.jsonl: no split of the data recorded it" in told
    assert "round-007: round 6, which comes before it, was not decided" in told
    assert "round-002.copy" not in told
    assert "extra.jsonl: no stage of round 1 recorded it" in told
    assert "amount-9-seed-0/trial.json: no stage of round 1 recorded it" in told


def test_a_stage_made_from_what_is_another_now_is_named(root: Path) -> None:
    run = Run(root)
    run.stage(1, "curate").forget()
    with run.stage(1, "curate").write([]) as out:
        write_rows(out.folder / "curated.jsonl", [])
    told = verified(root, 2)
    for stage in ("trials", "mix"):
        assert f"curated.jsonl: is not what stage {stage} of round 1 was made from" in told


def test_a_lost_reply_and_a_missing_best_adapter_are_named(root: Path) -> None:
    (root / "journal.sqlite").write_bytes(b"")
    shutil.rmtree(root / "best_adapter")
    told = verified(root, 2)
    assert "1 of 1 replies behind the candidates of round 1 are gone" in told
    assert "best_adapter/adapter_config.json: is not that of the best round" in told


def test_a_lost_journal_and_a_lost_record_are_named(root: Path) -> None:
    (root / "journal.sqlite").unlink()
    assert "journal.sqlite: is missing, and with it the replies" in verified(root, 2)
    (root / "round-001" / "stages" / "eval.json").unlink()
    assert "the record of the stage that wrote it is gone. " in verified(root, 2)
