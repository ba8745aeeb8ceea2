"""A user's row as one conversation: the one rule on names of fields, for `task: {name: jsonl}` and `train --data`.

    {"input": "2 + 2?", "output": "4"}                                        also prompt, question; see OUTPUTS
    {"instruction": "Add.", "input": "2 and 2", "output": "4"}                Alpaca: joined by an empty line
    {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    {"prompt": [{"role": "user", ...}], "completion": [{"role": "assistant", ...}]}

A field that is not read is counted and told, once a file. One that by its name is part of the problem (CARRIERS) is
refused: a student trained without it learns to answer questions it was not asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from synthloop.errors import UserError, did_you_mean, visible
from synthloop.jsonl import BYTE_ORDER_MARK
from synthloop.records import Message

PROBLEMS = ("messages", "instruction", "input", "prompt", "question")
OUTPUTS = ("output", "completion", "response", "answer")
CARRIERS = ("instruction", "system", "history", "context", "tools", "conversations")
ROLES = ("system", "developer", "user", "assistant", "tool")


class Conversation(NamedTuple):
    """What a row says. `turns` end with the assistant's; `is_chat` where the problem is turns and not a text."""

    turns: list[Message]
    is_chat: bool
    read: frozenset[str]


def read_conversation(
    row: dict[str, Any], where: str, problem: str | None = None, output: str | None = None
) -> Conversation:
    """The problem and the output of `row`.

    Args:
        problem, output: the fields to read; the first of PROBLEMS and OUTPUTS that the row has where not given. Turns
            that end with the assistant's hold the output, unless `output` names another field.

    Raises:
        UserError: no such field, or one that is not text or turns (`where` and the fields of the row are named).
    """
    name = problem_field(row, where, problem)
    turns = read_turns(row, name, "user", where)
    names = {name}
    if name == "instruction" and is_filled(row.get("input")):
        turns = [Message(role="user", content=f"{turns[-1]['content']}\n\n{text_field(row, 'input', where)}")]
    if name == "instruction":
        names.add("input")
    if output is not None or not turns or turns[-1]["role"] != "assistant":
        found = output_field(row, where, output)
        turns, names = [*turns, *read_turns(row, found, "assistant", where)], names | {found}
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        roles = [turn["role"] for turn in turns]
        raise UserError(
            f"{where}: expected a conversation that ends with an assistant turn after at least one other; "
            f"found {roles}."
        )
    return Conversation(turns, isinstance(row[name], list), frozenset(names))


def problem_field(row: dict[str, Any], where: str, asked: str | None = None) -> str:
    """The name of the field that holds the problem. Raises `UserError`."""
    return _first(row, PROBLEMS, asked, where, "input")


def output_field(row: dict[str, Any], where: str, asked: str | None = None) -> str:
    """The name of the field that holds the output. Raises `UserError`."""
    return _first(row, OUTPUTS, asked, where, "output")


def _first(row: dict[str, Any], known: Sequence[str], asked: str | None, where: str, kind: str) -> str:
    if asked is not None:
        field(row, asked, where)
        return asked
    for name in known:
        if row.get(name) is not None:
            return name
    if isinstance(row.get("conversations"), list):
        raise UserError(
            f"{where}: 'conversations' (ShareGPT) is not read. Write it as `messages`, turns of "
            '{"role": "user" or "assistant", "content": ...} in place of "from" and "value".'
        )
    if null := [f"'{name}'" for name in known if name in row]:
        raise UserError(f"{where}: {', '.join(null)} is null. Give the row its {kind}, or leave the row out.")
    raise UserError(
        f"{where}: none of the fields {', '.join(known)}. Rename one, or for a task set task.{kind} to one that the "
        f"row has: {', '.join(map(visible, row)) or 'it is empty'}."
    )


def read_turns(row: dict[str, Any], name: str, role: str, where: str) -> list[Message]:
    """The turns in a field: a list of them, or one text, which is a turn of `role`. Raises `UserError`."""
    value = field(row, name, where)
    if not isinstance(value, list):
        return [Message(role=role, content=text_field(row, name, where))]
    for turn in value:
        keys = {key for key, one in turn.items() if one is not None} if isinstance(turn, dict) else set()
        if keys != {"role", "content"} or turn["role"] not in ROLES or not isinstance(turn["content"], str):
            raise UserError(
                f"{where}: '{name}' should hold turns of `role` ({', '.join(ROLES)}) and `content` (text) alone, found "
                f"{turn!r:.200}."
            )
    return [Message(role=turn["role"], content=turn["content"].removeprefix(BYTE_ORDER_MARK)) for turn in value]


class Unread:
    """Fields of a file's rows that nothing reads, counted over the rows."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._rows = 0

    def add(self, row: dict[str, Any], read: Iterable[str], where: str, remedy: str | None) -> None:
        """Count what of `row` is not `read`. Raises `UserError` ending with `remedy`, if any, for one of CARRIERS."""
        self._rows += 1
        known = set(read)
        unread = [name for name, value in row.items() if name not in known and is_filled(value)]
        for name in unread:
            if name in CARRIERS and remedy is not None:
                raise UserError(
                    f"{where}: the field '{name}' is not read, and by its name it is part of the problem. {remedy}"
                )
        self._counts.update(unread)

    def __str__(self) -> str:
        """'topic' in 3, 'url' in 1 of 3 rows; empty where everything was read."""
        counts = ", ".join(f"'{name}' in {count}" for name, count in sorted(self._counts.items()))
        return f"{counts} of {self._rows} rows" if counts else ""


def is_filled(value: Any) -> bool:
    """Whether a field says anything: exports write null, "" or [] for what a row does not have."""
    return value not in (None, [], {}) and not (isinstance(value, str) and not value.strip())


def field(row: dict[str, Any], name: str, where: str) -> Any:
    """`row[name]`. Raises `UserError` naming the keys that are there."""
    if name not in row:
        raise UserError(
            f"{where}: no field '{name}'. {did_you_mean(name, row)} The row has: {', '.join(map(visible, row))}."
        )
    return row[name]


def text_field(row: dict[str, Any], name: str, where: str) -> str:
    """`row[name]` as text that is not blank; numbers are written out (0.00001). Raises `UserError` for all else."""
    value = field(row, name, where)
    if isinstance(value, str) and not value.strip():
        raise UserError(f"{where}: the field '{name}' is blank ({value!r:.40}); expected text.")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{where}: the field '{name}' should be text, found {value!r:.200}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: the field '{name}' should be text, found {value}: an empty cell?")
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    return str(value).removeprefix(BYTE_ORDER_MARK)
