"""Progress of a long step: a bar where a person watches, a line to the loop where it runs the stage.

    for reply in track(replies, total=len(requests), what="generate"): ...

Under the loop (`SYNTHLOOP_PROGRESS=1`) each update is one line on stderr that starts with the mark below; the loop
draws it and keeps it out of the stage's log.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")

MARK = "\x1esynthloop "
_INTERVAL_S = 0.25


class Update(NamedTuple):
    """`done` of `total` units of `what`."""

    what: str
    done: int
    total: int


def updates(total: int, what: str) -> Callable[[int], None]:
    """A function to call with the number done so far; calls closer than a quarter second are dropped, save the last."""
    under_loop = os.environ.get("SYNTHLOOP_PROGRESS") == "1"
    last = 0.0

    def update(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < _INTERVAL_S:
            return
        last = now
        if under_loop:
            print(MARK + json.dumps(Update(what, done, total)._asdict()), file=sys.stderr, flush=True)
        elif sys.stderr.isatty():
            end = "\n" if done >= total else ""
            print(f"\r{what} {done}/{total}", end=end, file=sys.stderr, flush=True)

    return update


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """`items`, reporting progress as they are consumed."""
    update = updates(total, what)
    for done, item in enumerate(items, 1):
        yield item
        update(done)


def parse(line: str) -> Update | None:
    """The update a stage wrote, or None when the line is ordinary output."""
    return Update(**json.loads(line.removeprefix(MARK))) if line.startswith(MARK) else None
