"""Requests that no engine served: how many, what was said, and when a stage has failed for it.

A stage that could not ask its engine has failed. It is not an empty stage: a reply that ended as 'error' is never
journaled, so the same command asks again what was not answered.
"""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from synthloop.errors import StageFailed
from synthloop.records import Completion

log = logging.getLogger("synthloop.engines")

NUM_FIRST = 32
"""A stage stops at once where none of this many requests, the first it made, was served (chosen, not measured)."""

NUM_TOLD = 3
MAX_CHARS = 300


@dataclass(frozen=True)
class Kind:
    """One kind of message: those that differ by numbers only are one. `message` is the first of them."""

    role: str
    message: str
    count: int


class Refusals:
    """What engines did not serve of one set of requests.

    Args:
        max_share: the share of them that may stay unanswered; with 1 they never make the stage fail.
        what: what they are for, as messages name it.
    """

    def __init__(self, max_share: float = 1.0, what: str = "requests") -> None:
        self._max_share = max_share
        self._what = what
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._first: set[str] = set()
        self._num_first = 0
        self.requests = 0
        self.errors = 0

    def submitted(self, key: str) -> None:
        """A request is on its way to an engine; a journaled one never is."""
        if self._num_first < NUM_FIRST:
            self._num_first += 1
            self._first.add(key)

    def add(self, key: str, role: str, reply: Completion) -> None:
        """Count a reply. Raises `StageFailed` where the first requests all came back unserved."""
        self.requests += 1
        if reply.finish_reason != "error":
            return
        self.errors += 1
        message = " ".join((reply.error or "no reason given").split())[:MAX_CHARS]
        kind = (role, re.sub(r"\d+", "0", message))
        first = self._kinds.get(kind, Kind(role, message, 0))
        self._kinds[kind] = replace(first, count=first.count + 1)
        self._first.discard(key)
        if self._num_first == NUM_FIRST and not self._first and self._max_share < 1:
            raise StageFailed(self._failure(f"none of the first {NUM_FIRST} requests was served"))

    def check(self) -> None:
        """To be called when all were asked. Raises `StageFailed` above the share; warns below it."""
        if self.errors > self._max_share * self.requests:
            share = f"above max_error_share={self._max_share:g}"
            raise StageFailed(self._failure(f"{self.errors} of {self.requests} requests were not served, {share}"))
        if self.errors:
            log.warning(
                "%s: %d of %d requests were not served and are left out. %s",
                self._what, self.errors, self.requests, "; ".join(self._told()),
            )  # fmt: skip

    def kinds(self) -> list[dict[str, Any]]:
        """Role, message and count of each kind, the most frequent first, for a stage's record."""
        return [asdict(kind) for kind in sorted(self._kinds.values(), key=lambda one: -one.count)]

    def _told(self) -> list[str]:
        return [f"{one['role']}: {one['message']} ({one['count']})" for one in self.kinds()[:NUM_TOLD]]

    def _failure(self, what: str) -> str:
        lines = [f"{self._what}: {what}. Most frequent:", *(f"  {one}" for one in self._told())]
        # All engines, and vLLM's own server, name the context where a prompt is too long for it.
        if any("context" in kind.message for kind in self._kinds.values()):
            lines.append("Prompts that do not fit never will: raise the context (args.max_model_len) or shorten them.")
        lines.append(
            "No failed request is recorded: once its cause is mended, the same command asks these again and nothing "
            "twice. To go on without them, raise max_error_share."
        )
        return "\n".join(lines)
