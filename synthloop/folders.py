"""Folders that a user names: what is not ours in them is left alone, and a run has one writer."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from synthloop.errors import UserError

RUN_MARK, LOCK = "config.resolved.json", "run.lock"


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Hold the writer lock of the run in the folder `root`. Raises `UserError` where another process holds it."""
    with (root / LOCK).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{root}: another process is writing to this run. Wait for it, or stop it.") from error
        yield


def is_locked(root: Path) -> bool:
    """Whether a process holds the writer lock of the run in the folder `root` now."""
    try:
        handle = (root / LOCK).open()
    except FileNotFoundError:
        return False
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def refuse_foreign(folder: Path, marks: Sequence[str], instead: str) -> None:
    """Refuse to write into a folder that a user named and that holds something else.

    Ours is one that is not there, is empty, or holds one of `marks`, the files that are written first. A first start
    that was killed leaves no more than the lock and a mark's temporary file, named like the mark behind a dot.

    Raises:
        UserError: naming what was found, and `instead`, what to type.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file. {instead}")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = [name for name in names if name != LOCK and not name.removeprefix(".").startswith(tuple(marks))]
    # Looked for after the listing: whoever writes here at this moment wrote the mark before the rest.
    if found and not any((folder / mark).is_file() for mark in marks):
        told = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise UserError(f"{folder} holds other files, which are left alone: {told}. {instead}")
