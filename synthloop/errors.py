"""The errors a user can meet, and the exit code of each.

SynthloopError
├── UserError        exit 2: the user's mistake; shown as one message, no traceback
├── CollapseStop     exit 3: the collapse guard stopped the run
└── StageFailed      exit 4: a stage's child process failed, or every engine of a role died
"""

from __future__ import annotations

import difflib
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


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """A sentence naming the closest of `known`, or the known names when none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(found, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known: {', '.join(names)}." if len(names) <= 30 else ""
