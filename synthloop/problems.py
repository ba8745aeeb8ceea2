"""A row's problem: its whole conversation before the completion, as text to compare, and as text to read.

Most tasks put a problem as one user turn, rendered from `input`; there the problem is `input`. In a chat the same last
turn ("Go on.") may end many conversations: there the problem is all turns. The system turn that most rows share says
nothing of one of them and is not compared; a person and a judge are shown it.

Rows are cut from one conversation where the turns of one begin with those of the other, as in a file with a row for
each turn of a chat, or where one ends as the other begins, as windows that slide over a chat do. A beginning that most
rows share, a greeting, makes them no one conversation (`synthloop.boilerplate`).

Limits: two rows whose turns part after a common beginning, branches of a tree, are told to be of one conversation only
by a third that ends where they part.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Protocol

from synthloop.boilerplate import is_common

if TYPE_CHECKING:
    from synthloop.records import Example, Message

SYSTEM = ("system", "developer")
MIN_WORDS = 12
"""Of the turns that two windows of one conversation share; fewer may be said in any (chosen, not measured)."""

Beginnings = tuple[bytes, ...]
"""A conversation as a hash of each of its beginnings, the last of which is the whole."""


class Problem(Protocol):
    """What `Example`, `Candidate` and `Row` have."""

    @property
    def input(self) -> str: ...

    @property
    def messages(self) -> tuple[Message, ...]: ...


def shown(row: Problem, without: str | None = None) -> str:
    """The problem as a person or a judge reads it: every turn after its role; `input` where that is all there is.

    Args:
        without: the text of a system turn that is left out.
    """
    turns = [turn for turn in _turns(row) if turn["role"] not in SYSTEM or turn["content"] != without]
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def dialogue(row: Problem, without: str | None = None) -> list[Message]:
    """The turns of user and assistant as the student sees them; a system turn other than `without` opens the first."""
    system = [turn["content"] for turn in row.messages if turn["role"] in SYSTEM and turn["content"] != without]
    first, *others = [turn for turn in row.messages if turn["role"] not in SYSTEM]
    return [{"role": first["role"], "content": "\n\n".join([*system, first["content"]])}, *others]


def compared(row: Problem, shared: frozenset[str] = frozenset()) -> str:
    """The problem as the text that is compared with others; `shared` are the system turns that are left out."""
    return "\n".join(_asked(row, shared))


def shared_system(rows: Sequence[Problem]) -> frozenset[str]:
    """The system turn that more than half of the rows have, if any."""
    counts = Counter(text for row in rows for text in {one["content"] for one in row.messages if one["role"] in SYSTEM})
    return frozenset(text for text, count in counts.items() if count > len(rows) / 2)


def same_text(text: str) -> str:
    """`text` but for white space, case, and how its characters are composed (NFC)."""
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFC", text).casefold().split()))


def beginnings(row: Problem, shared: frozenset[str] = frozenset()) -> Beginnings:
    """Of the turns that are compared, each as `same_text`."""
    return _ends([same_text(turn) for turn in _asked(row, shared)])


def begun_with(rows: Sequence[Beginnings]) -> list[list[bytes]]:
    """For each row, the whole conversations of other rows that its own turns begin with, common ones aside."""
    whole = {row[-1] for row in rows}
    counts = Counter(one for row in rows for one in row if one in whole)
    known = {one for one, count in counts.items() if not is_common(count, len(rows))}
    return [[one for one in row[:-1] if one in known] for row in rows]


def continuations(rows: Sequence[Beginnings]) -> list[tuple[int, int]]:
    """Pairs of positions: a row, and one whose turns begin with all of its."""
    first: dict[bytes, int] = {}
    for place, row in enumerate(rows):
        first.setdefault(row[-1], place)
    return [(first[end], place) for place, ends in enumerate(begun_with(rows)) for end in ends]


def cut_from(rows: Sequence[Beginnings], held: Sequence[Beginnings]) -> list[bool]:
    """Whether each of `rows` is the beginning or the continuation of one of `held`; equal ones are not meant."""
    begun = begun_with([*rows, *held])
    whole, inside = {one[-1] for one in held}, {end for ends in begun[len(rows) :] for end in ends}
    return [one[-1] in inside or not whole.isdisjoint(ends) for one, ends in zip(rows, begun, strict=False)]


def overlaps(rows: Sequence[Example]) -> list[tuple[int, int]]:
    """Pairs of positions that join rows of which one ends, with its completion, as the other begins.

    They share a turn and the reply to it at least, and MIN_WORDS words; common beginnings are aside.
    """
    said = [_said(row) for row in rows]
    openings = {turns[:2] for turns in said}
    begin: dict[bytes, list[int]] = {}
    for place, turns in enumerate(said):
        for end in _ends(turns)[1:]:
            begin.setdefault(end, []).append(place)
    joined: dict[bytes, list[int]] = {}
    known = {end for end, places in begin.items() if not is_common(len(places), len(rows))}
    for place, turns in enumerate(said):
        for start in range(1, len(turns) - 1):
            if turns[start : start + 2] not in openings or sum(len(turn.split()) for turn in turns[start:]) < MIN_WORDS:
                continue
            if (end := _ends(turns[start:])[-1]) in known:
                joined.setdefault(end, []).append(place)
    return [pair for end, places in joined.items() for pair in pairwise([*places, *begin[end]])]


def _said(row: Example) -> tuple[str, ...]:
    """The texts of the turns, the system's aside, and of the completion, each as `same_text`."""
    turns = [turn["content"] for turn in _turns(row) if turn["role"] not in SYSTEM]
    return tuple(map(same_text, [*turns, row.completion]))


def _ends(texts: Sequence[str]) -> tuple[bytes, ...]:
    """A hash of each beginning of `texts`."""
    return tuple(accumulate(texts, lambda before, text: _digest(before + _digest(text.encode())), initial=b""))[1:]


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _turns(row: Problem) -> list[Message]:
    """The turns; where there is one beside the system's, in the words of `input`, which the task's prompt may wrap."""
    if sum(turn["role"] not in SYSTEM for turn in row.messages) > 1:
        return list(row.messages)
    return [*(turn for turn in row.messages if turn["role"] in SYSTEM), {"role": "user", "content": row.input}]


def _asked(row: Problem, shared: frozenset[str]) -> list[str]:
    """The texts of the turns up to the one that asks `input`: what a recipe put after it, calls of tools, solves it."""
    turns = _turns(row)
    asking = [place for place, turn in enumerate(turns) if turn["role"] == "user" and row.input in turn["content"]]
    before = turns[: asking[-1]] if row.input and asking else turns
    texts = [turn["content"] for turn in before if turn["role"] not in SYSTEM or turn["content"] not in shared]
    return [*texts, row.input] if row.input and asking else texts
