"""Whether the files of a run are what the stages that made them recorded.

`stages/<stage>.json` of a round and `data/splits.json` hold the sha256 of every file they speak for. Whatever reads a
file of a run reads it through here (`store.read_json`, `store.read_rows`, `Stage.write`, `Run.adapter`), so that a byte
that changed on the disk ends in a message and never in a result. A file is hashed once a process, as long as its
size, inode and times stay.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from synthloop.errors import UserError
from synthloop.files import files_of, is_temporary, parse_json, redo, sha256

Stamp = tuple[int, int, int, int]


class Recorded(NamedTuple):
    """What is known of a file: who wrote it, its hash (and size, where that was kept), and how to have it again."""

    producer: str
    remedy: str
    sha256: str
    size: int | None = None


def check(path: Path) -> None:
    """Raise `UserError` where a file, or a file of a folder, is not what its stage recorded.

    What no complete stage recorded passes: files of the user's, and those of a stage that is under way.
    """
    for problem in problems(path):
        raise UserError(problem)


def problems(path: Path) -> Iterator[str]:
    """One sentence for each file at or below `path` that is missing, changed, or was put there by nobody."""
    home = _home(path)
    if home is None:
        return
    known, name = ledger(home), path.relative_to(home).as_posix()
    if name in known:
        yield from _differences(path, known[name])
        return
    below = {home / one: recorded for one, recorded in known.items() if one.startswith(f"{name}/")}
    for file, recorded in below.items():
        yield from _differences(file, recorded)
    for file in files_of(path) if below else []:
        if file not in below and not is_temporary(file):
            producer = next(iter(below.values())).producer
            yield f"{file}: is not of {producer}, which recorded every file of that folder. Move it elsewhere."


def is_there(path: Path) -> bool:
    """Whether `path` exists. Raises `UserError` where it does not though a complete stage recorded it."""
    if not path.exists():
        check(path)
    return path.exists()


def is_recorded(path: Path) -> bool:
    """Whether a complete stage recorded this file, be it there or not."""
    home = _home(path)
    return home is not None and path.relative_to(home).as_posix() in ledger(home)


def ledger(home: Path) -> dict[str, Recorded]:
    """Every file that a round's complete stages (or the split of the data) recorded, by its path below `home`."""
    known: dict[str, Recorded] = {}
    for record in [home / "splits.json"] if home.name == "data" else sorted((home / "stages").glob("*.json")):
        if record.exists():
            known |= _outputs(record, _stamp(record))
    return known


def digest(path: Path) -> str:
    """The sha256 of a file; of a folder that of its files' names and hashes; of nothing where there is nothing."""
    if path.is_file():
        return _sha256(path, _stamp(path))
    names = "".join(f"{file.relative_to(path).as_posix()} {digest(file)}\n" for file in files_of(path))
    return hashlib.sha256(names.encode()).hexdigest()


def _differences(file: Path, recorded: Recorded) -> Iterator[str]:
    if not file.is_file():
        yield f"{file}: is missing, though {recorded.producer} recorded it. {recorded.remedy}"
        return
    size, wrote = file.stat().st_size, f"{recorded.producer} recorded it"
    if recorded.size not in (None, size):
        yield f"{file}: changed since {wrote} ({size} bytes, recorded were {recorded.size}). {recorded.remedy}"
    elif digest(file) != recorded.sha256:
        yield f"{file}: changed since {wrote} (its sha256 is another). {recorded.remedy}"


def _home(path: Path) -> Path | None:
    """The folder of a run whose records speak for `path`: a round's, or `data`."""
    for folder in path.parents:
        if re.fullmatch(r"round-\d+|data", folder.name) and (folder.parent / "config.resolved.json").exists():
            return folder
    return None


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


@cache
def _sha256(path: Path, stamp: Stamp) -> str:
    return sha256(path)


@cache
def _outputs(record: Path, stamp: Stamp) -> dict[str, Recorded]:
    written = parse_json(record)
    if record.name == "splits.json":
        remedy = f"Put it back from a copy, or delete {record}: the same `synthloop run` command splits the data anew."
        hashes = written.get("sha256", {})
        return {f"{name}.jsonl": Recorded("the split of the data", remedy, one) for name, one in hashes.items()}
    number = int(record.parent.parent.name.rpartition("-")[2])
    producer, outputs = f"stage {record.stem} of round {number}", written.get("outputs", {})
    return {
        name: Recorded(producer, redo(number, record.stem), one["sha256"], one["bytes"])
        for name, one in outputs.items()
    }
