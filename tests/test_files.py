import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from synthloop.errors import UserError
from synthloop.files import copy_folder, parse_json, write_json, write_rows
from synthloop.records import Score

BROKEN = {
    "not UTF-8": b'{"a": "\xff"}',
    "cut": b'{"a": [1, 2',
    "empty": b"",
    "nested deep": b"[" * 100_000,
    "an endless number": b'{"a": ' + b"1" * 5_000 + b"}",
    "no number": b'{"a": NaN}',
    "infinite": b'{"a": -Infinity}',
    "too large a number": b'{"a": 1e999}',
    "a key twice": b'{"a": 1, "b": {"c": 1, "c": 2}}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_json_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "facts.json").write_bytes(content)
    with pytest.raises(UserError, match="facts.json: not valid JSON"):
        parse_json(tmp_path / "facts.json")


def test_what_is_not_finite_is_written_as_null(tmp_path: Path) -> None:
    write_json(tmp_path / "facts.json", {"loss": float("nan"), "all": (1.5, float("inf"))})
    assert parse_json(tmp_path / "facts.json") == {"loss": None, "all": [1.5, None]}


def test_a_seal_is_taken_off_and_compared(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_json(path, {"seed": 17, "name": "é"}, sealed=True)
    assert parse_json(path) == {"seed": 17, "name": "é"}
    path.write_text(path.read_text().replace("17", "18"))
    with pytest.raises(UserError, match="facts.json: changed since it was written"):
        parse_json(path)


def test_a_file_stays_what_it_was_when_its_writer_fails(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [Score(value=1, correct=True)])
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        write_rows(path, (Score(value=1 / 0, correct=True) for _ in range(2)))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_writers_of_one_file_do_not_break_each_other(tmp_path: Path) -> None:
    path, failures = tmp_path / "facts.json", []

    def write(number: int) -> None:
        try:
            for _ in range(30):
                write_json(path, {"writer": number, "padding": [number] * 1000})
                assert len(set(parse_json(path)["padding"])) == 1
        except (UserError, OSError) as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(tmp_path) == ["facts.json"]


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    killed = """
import os, sys
from pathlib import Path
from synthloop.files import written
with written(Path(sys.argv[1])) as stream:
    stream.write("half")
    os.kill(os.getpid(), 9)
"""
    path = tmp_path / "facts.json"
    subprocess.run([sys.executable, "-c", killed, str(path)], check=False, cwd=Path(__file__).parents[1])
    (left,) = tmp_path.iterdir()
    living = tmp_path / f".facts.json.{os.getppid()}-00000000-00000000.tmp"
    living.touch()
    write_json(path, {})
    assert not left.exists()
    assert {living, path} == set(tmp_path.iterdir())


def test_a_folder_is_copied_whole_over_another(tmp_path: Path) -> None:
    for name, text in (("one", "new"), ("two", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / text).write_text(text)
    copy_folder(tmp_path / "one", tmp_path / "two")
    assert os.listdir(tmp_path / "two") == ["new"]
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


def flushed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The paths that are flushed from now on, in order."""
    paths, real = [], os.fsync

    def fsync(descriptor: Any) -> None:
        paths.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_is_flushed_before_its_rename_and_its_folders_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = flushed(monkeypatch)
    write_json(tmp_path / "new" / "facts.json", {})
    assert paths[0] == tmp_path, "the folder that `new` was made in"
    assert paths[1].name.startswith(".facts.json.")
    assert paths[2] == tmp_path / "new"
    assert json.loads((tmp_path / "new" / "facts.json").read_text()) == {}
