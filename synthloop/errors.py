"""The errors a user can meet, and the exit code of each.

SynthloopError
├── UserError        exit 2: the user's mistake; shown as one message, no traceback
├── CollapseStop     exit 3: the collapse guard stopped the run
└── StageFailed      exit 4: a stage's child process failed, or every engine of a role died
"""

from __future__ import annotations

import difflib
import errno
import sqlite3
from collections.abc import Iterable

from synthloop.credentials import without_credentials


class SynthloopError(Exception):
    """Base of every error this project raises on purpose. Passwords and keys in URLs are hidden in its message."""

    exit_code = 4

    def __init__(self, message: str = "") -> None:
        super().__init__(without_credentials(message))


class UserError(SynthloopError):
    """A mistake of the user's: where it is, what was found, what was expected, what to type next."""

    exit_code = 2


class CollapseStop(SynthloopError):
    """The collapse guard stopped the run; the best adapter is kept."""

    exit_code = 3


class StageFailed(SynthloopError):
    """A stage could not finish; the run can be resumed by the same command."""

    exit_code = 4


FULL = (errno.ENOSPC, errno.EDQUOT)
LOCKED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)


def known_error(error: Exception) -> SynthloopError | None:
    """`error` itself where it is ours, the `StageFailed` to show for a disk that does not take what is written to it,
    None for anything else.

    Compiled libraries (safetensors) and compilers tell of a full disk in errors of their own, hence the text.
    """
    if isinstance(error, SynthloopError):
        return error
    number = error.errno if isinstance(error, OSError) else None
    sqlite = getattr(error, "sqlite_errorname", "") if isinstance(error, sqlite3.Error) else ""
    no_space = next((line for line in str(error).splitlines() if "No space left on device" in line), None)
    if number in FULL or sqlite == "SQLITE_FULL" or no_space:
        return StageFailed(f"The disk is full ({no_space or error}). Free some space and run it again.")
    if number in LOCKED or sqlite.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return StageFailed(f"No access ({error}). Let this user write there, or go on with a copy of the folder.")
    if number == errno.EIO or sqlite.startswith("SQLITE_IOERR"):
        return StageFailed(f"The disk fails, or is full ({error}). See to it and run it again.")
    return None


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """A sentence naming the closest of `known`, or the known names when none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(found, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known: {', '.join(names)}." if len(names) <= 30 else ""
