"""Ctrl-C, SIGTERM and SIGHUP end a command in the same way: a message, the report, the exit code 128 + signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        name = "Interrupted" if number == signal.SIGINT else f"Ended by {signal.Signals(number).name}"
        super().__init__(f"{name}. The state is saved; the same command resumes.")
        self.exit_code = 128 + number


def catch_signals() -> None:
    """Raise `Interrupted` in the main thread at the first of SIGNALS; end at once at the second.

    One that is ignored stays so: `nohup` ignores SIGHUP, a shell's background job SIGINT.
    """
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _raise)


def ignore_signals() -> None:
    """From here on this process ends by itself, within moments."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def held() -> Iterator[None]:
    """Raise `Interrupted` after the body, and not in it, where a signal comes meanwhile.

    For a fork: the handler may run in one of the hooks of `os.register_at_fork` (logging has some), and what it raises
    there is printed and lost.
    """
    global _holding
    _holding = True
    try:
        yield
    finally:
        _holding = False


def raise_if_asked() -> None:
    """Raise `Interrupted` where a signal came while it was `held`."""
    if _asked:
        raise Interrupted(_asked[0])


_holding = False
_asked: list[int] = []


def _raise(number: int, _: FrameType | None) -> None:
    _asked.append(number)
    for one in SIGNALS:
        if signal.getsignal(one) == _raise:
            signal.signal(one, _end)
    if not _holding:
        raise Interrupted(number)


def _end(number: int, _: FrameType | None) -> None:
    ended = Interrupted(number)
    os.write(2, f"\n{ended}\n".encode())
    os._exit(ended.exit_code)
