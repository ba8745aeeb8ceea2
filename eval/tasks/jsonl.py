"""Your own data, with no Python: JSONL files, the names of their fields, and a scorer.

    task:
      name: jsonl
      path: data                      # the folder of the files below
      train: train.jsonl              # validation and test are optional: what is missing is taken out of train
      test: test.jsonl
      input: question                 # else the first of: messages, instruction, input, prompt, question
      output: solution                # else the first of: output, completion, response, answer
      answer: answer                  # else `answer` where the row has it, else read from the output
      slice: topic                    # else `slice` where the row has it
      ignore: [url]                   # fields that are meant not to be read; others are counted in a warning
      scorer: numeric                 # numeric, exact, choice, json, regex or judge

One row, {"question": "2 + 2?", "solution": "2 + 2 = 4", "answer": 4}, becomes

    input  2 + 2?      completion  2 + 2 = 4      answer  4

`instruction` is Alpaca's, and is followed by an empty line and `input` where that says anything. `messages` are chat
turns (`role`, `content`) that end with the user's, or with the assistant's, which then is the output. Rows without an
answer to learn are left out and counted (`synthloop/conversations.py`). Turns are shown
to the student as they are, with `system` in front of those that have no system turn. `prompt` and `system` render what
a teacher writes from them, which has a single user turn.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any

from pydantic import field_validator, model_validator

from eval.labels import alike, refuse_alike
from eval.scoring import SCORERS, Scorer, named_scorer, only_number, stated_number
from eval.tasks._sources import SplitConfig, hub_rows, local_rows
from synthloop.conversations import (
    OUTPUTS,
    Conversation,
    LeftOut,
    Unread,
    field,
    read_conversation,
    text_field,
)
from synthloop.errors import UserError, did_you_mean
from synthloop.numerals import numbers
from synthloop.plugins import RoleName
from synthloop.records import Example, Message, Score
from synthloop.task import make_example
from synthloop.verdicts import heed_verdict, row_weight

METRIC = "accuracy"

_REMEDY = (
    "Join it into the field of the problem (task.input=instruction does that for Alpaca's), or write the row as "
    "`messages`. Where it is no part of it, set task.ignore to a list with its name."
)

_VERDICT_REMEDY = "Where the field says something else, set task.ignore to a list with its name."

log = logging.getLogger("synthloop.task")


class Config(SplitConfig):
    """Files, field names and the scorer. `dataset` reads a hub data set in place of files.

    Args:
        ignore: fields that are neither read nor warned of.
        labels: the answers `choice` knows; all answers of the data where not given. `prompt` may use them.
        pattern: what `regex` looks for; its first group is the answer.
        ignore_case: for `exact`.
        judge: for scorer `judge`: the role that is asked whether a reply is right (`eval/judging.py`). Where the
            student is not evaluated, in votes and filters, replies count as equal where their texts are.
        judge_instructions: for scorer `judge`: what it is told beyond the problem and the reference.
    """

    input: str | None = None
    output: str | None = None
    answer: str | None = None
    slice: str | None = None
    ignore: tuple[str, ...] = ()
    scorer: str
    labels: tuple[str, ...] = ()
    pattern: str | None = None
    ignore_case: bool = False
    judge: RoleName = "judge"
    judge_instructions: str = ""

    @field_validator("scorer")
    @classmethod
    def _known_scorer(cls, name: str) -> str:
        if name not in SCORERS:
            raise ValueError(f"unknown scorer. {did_you_mean(name, SCORERS)}")
        return name

    @model_validator(mode="after")
    def _scorer_settings(self) -> Config:
        """A setting that the scorer does not read is a mistake, and so is a missing one."""
        read_by = {"labels": "choice", "pattern": "regex", "ignore_case": "exact"}
        read_by |= {"judge": "judge", "judge_instructions": "judge"}
        for name, scorer in read_by.items():
            if name in self.model_fields_set and getattr(self, name) and self.scorer != scorer:
                raise ValueError(f"`{name}` is read by scorer '{scorer}' only, and scorer is '{self.scorer}'")
        if self.scorer == "regex":
            try:
                named_scorer("regex", pattern=self.pattern)
            except UserError as error:
                raise ValueError(str(error)) from error
        return self

    @cached_property
    def known_labels(self) -> tuple[str, ...]:
        """For `choice`: the given labels, else every answer of the data, sorted. Empty for other scorers."""
        if self.labels or self.scorer != "choice":
            refuse_alike(Counter(self.labels), "Leave one of them out of task.labels.")
            return self.labels
        rows = (one for split in ("train", "validation", "test") for one in _conversations(self, split, Unread()))
        counts = Counter(_answer(self, row, where, said) for where, row, said in rows)
        refuse_alike(counts, "Write one of them in all rows.")
        return tuple(sorted(counts))

    @cached_property
    def score(self) -> Scorer:
        return named_scorer(self.scorer, labels=self.known_labels, pattern=self.pattern, ignore_case=self.ignore_case)

    def variables(self) -> dict[str, Any]:
        return {"labels": self.known_labels} if self.scorer == "choice" else {}


class _NoNumber(UserError):
    """What scorer `numeric` would compare is not one number from end to end."""


def load(cfg: Config, split: str) -> Iterator[Example]:
    """The rows of the split, in file order. Rows whose own output the scorer calls wrong, rows that are left out, and
    fields that are not read, are counted and warned of.

    Raises:
        UserError: a file is missing, empty or does not parse, a field is missing or of another kind (file and line are
            named), an answer that no reply could equal, a numeric answer that is no number (with their count), or a
            split whose every row is left out, or every output wrong.
    """
    rows, wrong, unread = 0, [], Unread()
    slices: Counter[str] = Counter()
    no_numbers: list[_NoNumber] = []
    for where, row, said in _conversations(cfg, split, unread):
        try:
            example = _example(cfg, row, where, said)
        except _NoNumber as error:
            no_numbers.append(error)
            continue
        assert example.answer is not None
        if cfg.scorer != "regex" and not cfg.score(example.answer, example.answer).correct:
            raise UserError(f"{where}: the answer {example.answer!r} can never be matched by scorer '{cfg.scorer}'.")
        rows += 1
        slices.update([example.slice] if example.slice is not None else [])
        if not cfg.score(example.answer, example.completion).correct:
            wrong.append(f"{where}: {example.completion[-80:]!r} against the answer {example.answer!r}")
        yield example
    _refuse(no_numbers, split, rows)
    if unread.left_out and not rows:
        raise UserError(f"task: no row of '{split}' can be used. {unread.left_out}.")
    if unread.left_out:
        log.warning("task: '%s': %s.", split, unread.left_out)
    if str(unread):
        log.warning("task: fields of '%s' that are not read: %s. Name them in task.ignore if so meant.", split, unread)
    _warn_of_slices(slices, split)
    if wrong and len(wrong) == rows:
        raise UserError(f"scorer '{cfg.scorer}' calls every output of '{split}' wrong. Is it the right one? {wrong[0]}")
    if wrong:
        log.warning(
            "scorer '%s' calls %d of %d outputs of '%s' wrong: %s", cfg.scorer, len(wrong), rows, split, wrong[0]
        )


def _refuse(no_numbers: Sequence[_NoNumber], split: str, rows: int) -> None:
    if no_numbers:
        raise UserError(
            f"{len(no_numbers)} of {rows + len(no_numbers)} answers of '{split}' are not one number from end to end, "
            f"which scorer 'numeric' needs; the first: {no_numbers[0]}. Write the number alone (units can go into the "
            "output), leave these rows out, or set task.scorer=exact."
        )


def _warn_of_slices(slices: Counter[str], split: str) -> None:
    for one, other in alike(slices):
        told = f"{one!r} ({slices[one]} rows) and {other!r} ({slices[other]} rows)"
        log.warning("task: slices of '%s' that differ in case, width or spaces only are scored apart: %s.", split, told)


def places(cfg: Config, split: str) -> Iterator[str]:
    """File and line of each example, in the order of `load`."""
    return (where for where, _, _ in _conversations(cfg, split, Unread()))


def score(cfg: Config, example: Example, text: str) -> Score:
    """What the configured scorer says."""
    return cfg.score(example.answer, text)


def _rows(cfg: Config, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in cfg.names(split):
        yield from hub_rows(cfg, name) if cfg.dataset is not None else local_rows(cfg.file(name))


def _conversations(cfg: Config, split: str, unread: Unread) -> Iterator[tuple[str, dict[str, Any], Conversation]]:
    """(where, row, what it says) of each row of a split that has an answer to learn; the others count in `unread`."""
    others = {cfg.answer or "answer", cfg.slice or "slice", *cfg.ignore}
    for where, row in _rows(cfg, split):
        try:
            said = _read(cfg, row, where, others)
            if "weight" not in said.read | others and row_weight(row, where, _VERDICT_REMEDY) == 0:
                raise LeftOut("`weight` 0")
            heeded = heed_verdict(row, said.read | others, where, _VERDICT_REMEDY)
            role = said.turns[-2]["role"]
            if role != "user":
                raise LeftOut(f"no turn of the user right before the output (but one of the {role})")
        except LeftOut as why:
            unread.leave_out(why, where)
            continue
        unread.add(row, said.read | others | heeded, where, _REMEDY)
        yield where, row, said


def _read(cfg: Config, row: dict[str, Any], where: str, others: Collection[str]) -> Conversation:
    """The row's conversation; for scorer `json` an output that is not text is written as JSON."""
    if cfg.scorer == "json":
        outputs = OUTPUTS if cfg.output is None else (cfg.output,)
        given = {name: row[name] for name in outputs if name in row and (row[name] is not None or cfg.output)}
        row = row | {name: _json(value) for name, value in given.items()}
    return read_conversation(row, where, cfg.input, cfg.output, others)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _example(cfg: Config, row: dict[str, Any], where: str, said: Conversation) -> Example:
    *shown, reply = said.turns
    group = row.get("slice") if cfg.slice is None else field(row, cfg.slice, where)
    example = make_example(
        cfg,
        input=shown[-1]["content"],
        completion=reply["content"],
        answer=_answer(cfg, row, where, said),
        slice=None if group is None else str(group),
    )
    return _with_turns(cfg, example, shown) if said.is_chat else example


def _with_turns(cfg: Config, example: Example, turns: Sequence[Message]) -> Example:
    """The example with its own conversation as the prompt; an id of its own, since the last turn alone may repeat."""
    shown = list(turns)
    if cfg.system is not None and shown[0]["role"] != "system":
        shown.insert(0, Message(role="system", content=cfg.system))
    if len(shown) == 1:
        return example.model_copy(update={"messages": tuple(shown)})
    whole = make_example(cfg, input=json.dumps(shown), completion=example.completion, answer=None)
    return example.model_copy(update={"id": whole.id, "messages": tuple(shown)})


def _answer(cfg: Config, row: dict[str, Any], where: str, found: Conversation) -> str:
    """The short value the scorer compares: the answer field, else what the scorer finds in the output."""
    output = found.turns[-1]["content"]
    name = cfg.answer or "answer"
    if (cfg.answer is not None or row.get(name) is not None) and not (cfg.scorer == "numeric" and name in found.read):
        answer = _text(cfg, row, name, where).strip()
        if cfg.scorer == "numeric" and only_number(answer) is None:
            raise _NoNumber(f"{where}: {answer[-80:]!r}")
        return answer
    if cfg.scorer == "choice":
        return output.strip()
    parsed = cfg.score(None, output).parsed
    if cfg.scorer == "numeric" and numbers(output):
        if parsed is None or (stated := stated_number(output)) is None:
            raise _NoNumber(f"{where}: {output[-80:]!r}")
        return stated
    if parsed is None:
        raise UserError(
            f"{where}: scorer '{cfg.scorer}' finds no answer in the output {output[-80:]!r}. Set task.answer."
        )
    return parsed


def _text(cfg: Config, row: dict[str, Any], name: str, where: str) -> str:
    """A field as text, a list of one as its one; for scorer `json` a value that is not text is written as JSON."""
    if cfg.scorer != "json" and isinstance(row.get(name), list) and len(row[name]) == 1:
        row = {**row, name: row[name][0]}
    return _json(field(row, name, where)) if cfg.scorer == "json" else text_field(row, name, where)
