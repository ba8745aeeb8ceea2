import os
from pathlib import Path

import pytest

from synthloop import integrity, loop
from synthloop.config import Config, dump, parse
from synthloop.errors import UserError
from synthloop.records import Score
from synthloop.splits import prepare
from synthloop.store import Run, read_json, read_rows, write_json, write_rows
from tests.finished_run import CONFIG
from tests.test_files import flushed


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with one complete stage."""
    write_json(tmp_path / "config.resolved.json", dump(parse(Config, CONFIG, "x")))
    run = Run(tmp_path)
    with run.stage(1, "train").write([]) as out:
        write_rows(out.folder / "rows.jsonl", [Score(value=number, correct=True) for number in range(3)])
        write_json(out.folder / "facts.json", {"rows": 3})
        write_json(out.folder / "adapter" / "adapter_config.json", {"r": 16})
    return run


def test_what_is_read_is_what_was_recorded(run: Run) -> None:
    facts, rows = run.round_dir(1) / "facts.json", run.round_dir(1) / "rows.jsonl"
    assert read_json(facts) == {"rows": 3}
    facts.write_text(facts.read_text().replace("3", "4"))
    with pytest.raises(UserError, match="facts.json: changed since stage train of round 1 .* --from 1/train"):
        read_json(facts)
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(UserError, match="rows.jsonl: changed since stage train .* bytes, recorded were"):
        read_rows(rows, Score)
    with pytest.raises(UserError, match="rows.jsonl"), run.stage(1, "eval").write([rows]):
        raise AssertionError("the stage must not begin")
    rows.unlink()
    with pytest.raises(UserError, match="rows.jsonl: is missing, though stage train of round 1 recorded it"):
        integrity.is_there(rows)


def test_a_folder_holds_its_recorded_files_and_no_other(run: Run) -> None:
    adapter = run.adapter(1)
    assert adapter is not None
    (adapter / "adapter_model.bin").write_bytes(b"of someone else")
    with pytest.raises(UserError, match="adapter_model.bin: is not of stage train of round 1"):
        run.adapter(1)
    (adapter / "adapter_model.bin").unlink()
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(UserError, match="adapter_config.json: is missing"):
        run.adapter(1)


def test_files_of_an_undone_stage_and_of_the_user_pass(run: Run) -> None:
    (run.round_dir(1) / "facts.json").write_text("[]")
    run.stage(1, "train").forget()
    assert read_json(run.round_dir(1) / "facts.json") == []
    assert not integrity.is_recorded(run.round_dir(1) / "facts.json")
    write_json(run.root / "own.json", [1])
    assert read_json(run.root / "own.json") == [1]


def test_a_stage_done_again_is_read_anew(run: Run) -> None:
    """Same names and sizes; what was hashed before is not taken for what is there now."""
    for value in (4, 5):
        run.stage(1, "train").forget()
        with run.stage(1, "train").write([]) as out:
            write_json(out.folder / "facts.json", {"rows": value})
        assert read_json(run.round_dir(1) / "facts.json") == {"rows": value}


def test_a_file_is_hashed_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    monkeypatch.setattr(integrity, "sha256", lambda path: hashed.append(path) or "0")
    for _ in range(3):
        with pytest.raises(UserError):
            read_json(run.round_dir(1) / "facts.json")
    assert len(hashed) == 1


def test_a_record_of_a_version_without_seals_is_read(run: Run) -> None:
    path = run.stage(1, "train").record_path
    write_json(path, run.stage(1, "train").record())
    assert "checksum" not in path.read_text()
    assert read_json(run.round_dir(1) / "facts.json") == {"rows": 3}


def test_the_split_is_on_the_disk_before_the_record_that_speaks_for_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = flushed(monkeypatch)
    prepare(run.config, run.root)
    names = [path.name.lstrip(".").partition(".jsonl")[0].partition(".json")[0] for path in paths]
    record = names.index("splits")
    assert {"train", "probe", "gate", "test", "data"} <= set(names[:record])
    assert paths[-1] == run.root / "data"


def test_a_stage_and_the_best_adapter_are_on_the_disk_before_they_count(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = flushed(monkeypatch)
    with run.stage(2, "eval").write([]) as out:
        (out.folder / "eval").mkdir()
        (out.folder / "eval" / "gate.jsonl").write_text("{}\n")
    folder = run.round_dir(2)
    before = paths[: next(number for number, path in enumerate(paths) if path.parent.name == "stages")]
    assert {folder / "eval.partial" / "eval" / "gate.jsonl", folder / "eval", folder, run.root} <= set(before)
    assert paths[-1] == folder / "stages"
    loop.keep_best(run, 1)
    assert run.root / "best_adapter.partial" / "adapter_config.json" in paths
    assert paths[-1] == run.root
    assert {"adapter_config.json", "README.md"} <= set(os.listdir(run.root / "best_adapter"))
