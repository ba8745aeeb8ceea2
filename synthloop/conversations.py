"""A user's row as one conversation: the one rule on names of fields, for `task: {name: jsonl}` and `train --data`.

    {"input": "2 + 2?", "output": "4"}                                        also prompt, question; see OUTPUTS
    {"instruction": "Add.", "input": "2 and 2", "output": "4"}                Alpaca: joined by an empty line
    {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]}               ShareGPT
    {"prompt": [{"role": "user", ...}], "completion": [{"role": "assistant", ...}]}

A field that is not read is counted and told, once a file. One that by its name is part of the problem (CARRIERS) is
refused: a student trained without it learns to answer questions it was not asked. So is a key of a turn beyond its
role and text (`tool_calls`, `reasoning_content`).

A row that has no answer to learn costs itself alone: it is left out and counted (`LeftOut`). So it is with turns that
end with the user's and no output beside them; an empty answer or problem; and a last turn with `weight: 0` (OpenAI) or
`train: false` (Axolotl). Of two answers only one can be learned: such a row is refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from synthloop.errors import UserError, did_you_mean, visible
from synthloop.jsonl import BYTE_ORDER_MARK
from synthloop.records import Message

PROBLEMS = ("messages", "instruction", "input", "prompt", "question", "conversations")
OUTPUTS = ("output", "completion", "response", "answer")
CARRIERS = (
    *("instruction", "system", "system_prompt", "history", "context", "passage", "documents"),
    *("tools", "functions", "conversations", "image", "images"),
)
ROLES = ("system", "developer", "user", "assistant", "tool")
SHAREGPT = {"human": "user", "gpt": "assistant"}
"""ShareGPT's names of roles, of turns with `from` and `value`; others are as ROLES has them."""
MARKS = ("weight", "train")
"""Keys of a turn that say whether it is learned: 1 or 0, true or false."""
PAIR = ("chosen", "rejected")

EMPTY_ANSWER, EMPTY_PROBLEM = "an empty answer", "an empty problem"
NO_ANSWER = f"no answer after the user's last turn, nor in a field {', '.join(OUTPUTS)}"


class LeftOut(Exception):
    """A row that has nothing to learn; what it has instead, as it is counted ('an empty answer')."""


class Conversation(NamedTuple):
    """What a row says. `turns` end with the assistant's; `is_chat` where the problem is turns and not a text."""

    turns: list[Message]
    is_chat: bool
    read: frozenset[str]


def read_conversation(
    row: dict[str, Any],
    where: str,
    problem: str | None = None,
    output: str | None = None,
    others: Collection[str] = (),
) -> Conversation:
    """The problem and the output of `row`.

    Args:
        problem, output: the fields to read; the first of PROBLEMS and OUTPUTS that the row has where not given. Turns
            that end with the assistant's hold the output, unless `output` names another field.
        others: fields that are no output, whatever their names; `answer` beside a conversation never is.

    Raises:
        LeftOut: the problem or the output is empty or not there, or the output is marked as not to be learned.
        UserError: no such field, one that is not text or turns, or two outputs (`where` and the fields are named).
    """
    name = problem_field(row, where, problem)
    turns, names = read_problem(row, name, where)
    if output is None and turns and turns[-1]["role"] == "assistant":
        _refuse_second_output(row, name, turns[-1]["content"], others, where)
    else:
        if output is None:
            _require_output(row, name, turns)
        found = output_field(row, where, output)
        turns, names = [*turns, *read_turns(row, found, "assistant", where)], names | {found}
    if not is_filled(row[name]):
        raise LeftOut(EMPTY_PROBLEM)
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        roles = [turn["role"] for turn in turns]
        raise UserError(
            f"{where}: expected a conversation that ends with an assistant turn after at least one other; "
            f"found {roles}."
        )
    require_filled(turns[:-1], turns[-1]["content"])
    return Conversation(turns, isinstance(row[name], list), names)


def _refuse_second_output(row: dict[str, Any], name: str, learned: str, others: Collection[str], where: str) -> None:
    """Raises `UserError` for an output beside turns that end with the assistant's, unless it repeats that one."""
    for other in OUTPUTS:
        value = row.get(other)
        if other in {name, "answer", *others} or not is_filled(value) or str(value).strip() == learned.strip():
            continue
        raise UserError(
            f"{where}: '{name}' ends with an answer ({learned!r:.80}), and '{other}' holds another ({value!r:.80}). "
            f"Leave out the one that is not to be learned, or where '{other}' follows it, end '{name}' with a turn of "
            "the user."
        )


def _require_output(row: dict[str, Any], name: str, turns: Sequence[Message]) -> None:
    """Raises `LeftOut` where the problem is turns that end with the user's, or none, and there is no output field."""
    if not isinstance(row[name], list) or row.keys() & {*OUTPUTS} or row.keys() >= {*PAIR}:
        return
    if not turns:
        raise LeftOut(EMPTY_PROBLEM)
    if turns[-1]["role"] == "user":
        raise LeftOut(NO_ANSWER)


def read_problem(row: dict[str, Any], name: str, where: str) -> tuple[list[Message], frozenset[str]]:
    """The turns in the field `name` of the problem, and the fields they were read from. Raises `UserError`."""
    turns = read_turns(row, name, "user", where)
    if name != "instruction" or isinstance(row[name], list):
        return turns, frozenset({name})
    parts = [turns[0]["content"], _text(row["input"], "input", where) if is_filled(row.get("input")) else ""]
    joined = "\n\n".join(part for part in parts if part.strip())
    return [Message(role="user", content=joined)], frozenset({name, "input"})


def require_filled(prompt: Sequence[Message], *answers: str) -> None:
    """Raises `LeftOut` where the user's last turn, or an answer, says nothing."""
    if not prompt or (prompt[-1]["role"] == "user" and not prompt[-1]["content"].strip()):
        raise LeftOut(EMPTY_PROBLEM)
    if not all(answer.strip() for answer in answers):
        raise LeftOut(EMPTY_ANSWER)


def problem_field(row: dict[str, Any], where: str, asked: str | None = None) -> str:
    """The name of the field that holds the problem. Raises `UserError`."""
    return _first(row, PROBLEMS, asked, where, "input")


def output_field(row: dict[str, Any], where: str, asked: str | None = None) -> str:
    """The name of the field that holds the output. Raises `UserError`."""
    return _first(row, OUTPUTS, asked, where, "output")


def _first(row: dict[str, Any], known: Sequence[str], asked: str | None, where: str, kind: str) -> str:
    """`asked`, or the first of `known` that says anything; where none does, the first that is there."""
    if asked is not None:
        field(row, asked, where)
        return asked
    there = [name for name in known if name in row]
    if there:
        return next((name for name in there if is_filled(row[name])), there[0])
    if set(PAIR) <= row.keys():
        raise UserError(f"{where}: a preference pair ('chosen', 'rejected'), and no {kind}. {PAIR_REMEDY}")
    raise UserError(
        f"{where}: none of the fields {', '.join(known)}. Rename one, or for a task set task.{kind} to one that the "
        f"row has: {', '.join(map(visible, row)) or 'it is empty'}."
    )


PAIR_REMEDY = (
    "Pairs are trained on by themselves: synthloop train CONFIG --data FILE --output DIR train.objective=dpo. To learn "
    "the preferred answer alone, name it `completion` and leave `rejected` out."
)


def read_turns(row: dict[str, Any], name: str, role: str, where: str) -> list[Message]:
    """The turns in a field: a list of them, one turn, or one text, which is a turn of `role`; it may be blank.

    Raises:
        LeftOut: the last turn is the assistant's and is marked as not to be learned.
        UserError: the field is something else, or a turn has a key that is not read.
    """
    value = field(row, name, where)
    if not isinstance(value, list | dict):
        return [Message(role=role, content=_text(value, name, where))]
    given = [value] if isinstance(value, dict) else value
    turns = [_turn(turn, name, where) for turn in given]
    for turn, read in zip(given, turns, strict=True):
        is_learned = _is_learned(turn, name, where)
        if is_learned and read["role"] != "assistant":
            raise UserError(
                f"{where}: '{name}' has a turn of the {read['role']} that is to be learned ({turn!r:.200}), and the "
                "loss is on the assistant's last turn alone. Leave the mark out."
            )
    if turns and turns[-1]["role"] == "assistant" and _is_learned(given[-1], name, where) is False:
        raise LeftOut("an answer that is marked as not to be learned (`weight` 0 or `train` false)")
    return turns


def _turn(turn: Any, name: str, where: str) -> Message:
    """A turn of `role` and `content`, or of ShareGPT's `from` and `value`. Raises `UserError` for anything more."""
    filled = {key for key, one in turn.items() if is_filled(one)} if isinstance(turn, dict) else set()
    names = ("from", "value") if "from" in filled else ("role", "content")
    role, content = (turn.get(key) for key in names) if filled else (None, None)
    role = SHAREGPT.get(role, role) if isinstance(role, str) else role
    if content is None and filled and names[1] in turn:
        content = ""
    unread = sorted(filled - {*names, *MARKS})
    if role not in ROLES or not isinstance(content, str) or unread:
        found = f"{', '.join(map(repr, unread))} in " if unread else ""
        raise UserError(
            f"{where}: '{name}' should hold turns of `role` ({', '.join(ROLES)}) and `content` (text) alone, found "
            f"{found}{turn!r:.200}. Write what else it says into its text as the student should read or write it, or "
            "leave it out."
        )
    return Message(role=role, content=content.removeprefix(BYTE_ORDER_MARK))


def _is_learned(turn: dict[str, Any], name: str, where: str) -> bool | None:
    """What a turn says of being learned; None where it says nothing. Raises `UserError` for a mark but 0 or 1."""
    marks = {key: turn[key] for key in MARKS if is_filled(turn.get(key))}
    for key, mark in marks.items():
        if isinstance(mark, str) or mark not in (0, 1):
            raise UserError(
                f"{where}: '{name}' has a turn whose `{key}` is {mark!r:.80}; expected 0 or 1, false or true. What a "
                "whole row counts in the loss is a `weight` beside the turns."
            )
    return all(marks.values()) if marks else None


class Unread:
    """What of a file's rows is not used: fields that nothing reads, and rows that are left out; counted."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._rows = 0
        self._left_out: Counter[str] = Counter()
        self._first: dict[str, str] = {}

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

    def leave_out(self, why: LeftOut, where: str) -> None:
        """Count a row that is left out."""
        self._left_out[str(why)] += 1
        self._first.setdefault(str(why), where)

    @property
    def num_left_out(self) -> int:
        return self._left_out.total()

    @property
    def left_out(self) -> str:
        """3 rows are left out: 2 with an empty answer (first FILE, line 2), ...; empty where none is."""
        if not self._left_out:
            return ""
        said = [f"{count} with {why} (first {self._first[why]})" for why, count in self._left_out.most_common()]
        rows = "1 row is" if self.num_left_out == 1 else f"{self.num_left_out} rows are"
        return f"{rows} left out: {', '.join(said)}"

    @property
    def facts(self) -> dict[str, dict[str, int]]:
        """For a record: rows that are left out by why, and unread fields; those that are empty are not there."""
        found = {"left_out": dict(self._left_out), "unread": dict(sorted(self._counts.items()))}
        return {name: counts for name, counts in found.items() if counts}

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
    if value is None:
        raise UserError(f"{where}: the field '{name}' should be text, found None.")
    text = _text(value, name, where)
    if not text.strip():
        raise UserError(f"{where}: the field '{name}' is blank ({value!r:.40}); expected text.")
    return text


def _text(value: Any, name: str, where: str) -> str:
    """A value as text, which may be blank: null is. Raises `UserError` for what is neither text nor a number."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{where}: the field '{name}' should be text, found {value!r:.200}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: the field '{name}' should be text, found {value}: an empty cell?")
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    return str(value).removeprefix(BYTE_ORDER_MARK)
