"""Files that are there whole or not at all: written beside their place, flushed, renamed, and their folder flushed.

JSON that no record of a stage speaks for (the records themselves, the config) is sealed: its last key, `checksum`, is a
hash of the rest, so that a changed byte is noticed when it is read.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

from synthloop.errors import UserError
from synthloop.records import Record

SEAL = "checksum"

_TOKEN = secrets.token_hex(4)
"""Tells the temporary files of this process from those of a dead one that had the same id."""

_TEMPORARY = re.compile(r"\..+\.(\d+)-([0-9a-f]{8})-[0-9a-f]{8}\.tmp")


def sha256(path: Path) -> str:
    """The hex digest of a file, or of a folder's files in name order."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else files_of(path):
        if file != path:
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def files_of(folder: Path) -> list[Path]:
    """Every file below `folder`, in name order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flush(path: Path) -> None:
    """Return once the disk has the file's bytes, or the folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """`flush` for everything below `folder`, and for itself."""
    for path in [*folder.rglob("*"), folder]:
        flush(path)


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it, so that they are there after a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        flush(folder.parent)


def move_in_place(source: Path, target: Path) -> None:
    """Rename a flushed file over `target`; a folder's files are moved into it, so that two stages can share `eval/`.

    The folder that `target` is in is left for the caller to flush.
    """
    if source.is_dir():
        make_folder(target)
        for child in source.iterdir():
            move_in_place(child, target / child.name)
        source.rmdir()
        flush(target)
    else:
        source.replace(target)


def copy_folder(source: Path, target: Path, finish: Callable[[Path], None] = lambda folder: None) -> None:
    """Copy a folder over `target`, whole or not at all; `finish` changes the copy before it is put there."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial)
    finish(partial)
    flush_tree(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    flush(target.parent)


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """A stream whose text becomes the file `path` when the body has ended.

    Several processes may write the same file: each has a temporary file of its own, and the last to end stays. What
    killed processes left of theirs is removed.
    """
    make_folder(path.parent)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if not _is_being_written(left):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{_TOKEN}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            yield stream
        flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


def is_temporary(path: Path) -> bool:
    """Whether `path` is named as `written` names what is not whole yet."""
    return _TEMPORARY.fullmatch(path.name) is not None


def _is_being_written(temporary: Path) -> bool:
    named = _TEMPORARY.fullmatch(temporary.name)
    if named is None or int(named[1]) == os.getpid():
        return named is not None and named[2] == _TOKEN
    try:
        os.kill(int(named[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's process
    return True


def write_text(path: Path, text: str) -> None:
    """Write `text` whole or not at all."""
    with written(path) as stream:
        stream.write(text)


def write_json(path: Path, value: Any, *, sealed: bool = False) -> None:
    """Write `value` whole or not at all. What is not finite (a loss that is no number) becomes null, as in rows.

    Args:
        sealed: add the checksum that `parse_json` compares; `value` must be an object.
    """
    value = finite(value)
    if sealed:
        value = {**value, SEAL: _checksum(value)}
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_rows(path: Path, rows: Iterable[Record]) -> int:
    """Write one JSON object a line, in order, whole or not at all; the number of rows."""
    count = 0
    with written(path) as stream:
        for row in rows:
            stream.write(row.model_dump_json() + "\n")
            count += 1
    return count


def parse_json(path: Path) -> Any:
    """The JSON value at `path`, its seal taken off.

    Raises:
        UserError: the file is missing, broken, says something twice, or is not what its seal was made for.
    """
    try:
        value = json.loads(
            path.read_bytes().decode(), parse_constant=_refuse, parse_float=_float, object_pairs_hook=_object
        )
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file. Is this a run directory whose stages up to here are complete?"
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, an endless number, nested too deep
        raise UserError(f"{path}: not valid JSON ({error}).") from error
    if isinstance(value, dict) and SEAL in value and value.pop(SEAL) != _checksum(value):
        raise UserError(f"{path}: changed since it was written (its checksum is of other contents). {remedy(path)}")
    return value


def remedy(path: Path) -> str:
    """What to do about a sealed file that is not as it was written."""
    if path.parent.name == "stages":
        return redo(int(path.parent.parent.name.rpartition("-")[2]), path.stem)
    if path.name == "config.resolved.json":
        return "Put it back from a copy, or correct it, delete its last line (the checksum) and run the same command."
    return "Put it back from a copy, or delete it: the same `synthloop run` command writes it anew."


def redo(round: int, stage: str) -> str:
    """What to do about a file of a stage."""
    return (
        "Put it back from a copy, or redo the stage and all after it: "
        f"the same `synthloop run` command with --from {round}/{stage}."
    )


def _checksum(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def finite(value: Any) -> Any:
    """`value` with null for every number that JSON has no form for."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' stands there twice")
    return found
