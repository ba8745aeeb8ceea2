"""Rows to token ids: the loop's own `train.jsonl`, or a user's plain JSONL.

Accepted lines:

    {"id": ..., "source": "real", "messages": [...], "completion": "..."}              a `Row` of the loop
    {"messages": [{"role": "user", ...}, ..., {"role": "assistant", ...}]}             the last turn is the completion
    {"prompt": [{"role": "user", ...}], "completion": [{"role": "assistant", ...}]}
    {"prompt": "How many ...?", "completion": "3 + 4 = 7"}                             one user turn, one assistant turn
    {"input": ..., "output": ...}, {"instruction": ..., "input": ..., "output": ...}   and the other names of fields
                                          that `task: {name: jsonl}` reads, by the same rule (conversations.py)

Each may have a `weight` (1.0 by default): what the row counts in the loss, relative to the others (`train/weights.py`).

Every row goes through the chat template, string prompts too (TRL would train on those as plain text): what the student
is trained on is then what evaluation and `vllm serve` put to it. Loss falls on the completion only; in a conversation
of several turns that is the last one, and earlier assistant turns are context.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synthloop.chat import completion_ids, end_ids, prompt_ids, reply_text
from synthloop.config import parse
from synthloop.conversations import Unread, read_conversation
from synthloop.errors import UserError
from synthloop.jsonl import read_jsonl
from synthloop.records import Row

log = logging.getLogger("synthloop.train")


UNREAD_REMEDY = "Join it into the problem, or rename it where it is no part of it."


class Tokens(NamedTuple):
    """One row as the model sees it. `completion_mask` is 1 on the tokens the loss is on; both have the same length."""

    input_ids: list[int]
    completion_mask: list[int]


def completion_of(tokens: Tokens) -> list[int]:
    """The ids that the loss is on."""
    return [id for id, mask in zip(tokens.input_ids, tokens.completion_mask, strict=True) if mask]


def read_training_rows(path: Path) -> list[Row]:
    """The rows of `path`, in order. Keys of a user's line that are not read are counted in one warning.

    Raises:
        UserError: the file is missing or has no row, or a line has no format listed in the module's docstring.
    """
    unread = Unread()
    rows = []
    for number, line in read_jsonl(path):
        where = f"{path}, line {number}"
        weight = _weight(line.get("weight", 1.0), where)
        if "source" in line:
            rows.append(parse(Row, line, where))
            continue
        turns, _, read = read_conversation(line, where)
        unread.add(line, read | {"weight"}, where, UNREAD_REMEDY)
        said = {"messages": tuple(turns[:-1]), "completion": turns[-1]["content"]}
        rows.append(Row(id=f"{path.stem}:{number}", source="real", weight=weight, **said))
    if not rows:
        raise UserError(f"{path}: no rows to train on. Expected one JSON object a line.")
    if str(unread):
        log.warning("train: %s: keys that training does not read: %s.", path, unread)
    return rows


def _weight(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise UserError(f"{where}: 'weight' should be a number of 0 or more, found {value!r:.200}.")
    return float(value)


def tokenise(tokenizer: Any, rows: Sequence[Row], **template_kwargs: Any) -> list[Tokens]:
    """The rows' token ids, in order: exactly the prompt of inference, then the assistant's turn with its end token.

    Raises:
        UserError: the chat template refuses a row's turns or drops one (the row is named).
    """
    tokenised = []
    for row in rows:
        try:
            prompt = prompt_ids(tokenizer, row.messages, **template_kwargs)
            completion = completion_ids(tokenizer, row.messages, row.completion, **template_kwargs)
        except UserError as error:
            raise UserError(f"{_place(row)}: {error}") from error
        tokenised.append(Tokens(prompt + completion, [0] * len(prompt) + [1] * len(completion)))
    _warn_of_special_tokens(tokenizer, rows)
    return tokenised


def describe_changes(
    tokenizer: Any, texts: Sequence[str], completions: Sequence[Sequence[int]], **template_kwargs: Any
) -> dict[str, int]:
    """How many of `texts` are not learned word for word, for the stage's record: their `completions` (token ids), as an
    engine gives them back, do not hold them."""
    ends = end_ids(tokenizer, **template_kwargs)
    learned = [reply_text(tokenizer, ids, ends) for ids in completions]
    changed = [(text, other) for text, other in zip(texts, learned, strict=True) if text not in other]
    if changed:
        log.warning(
            "train: the chat template or the tokenizer changes the text of %d of %d completions (it may trim): the "
            "first, %.80r, is learned as %.80r.",
            *(len(changed), len(texts), *changed[0]),
        )
    return {"changed_completions": len(changed)}


def _place(row: Row) -> str:
    """Where a row comes from: the line of a user's file, or the sample of the loop."""
    file, _, line = row.id.rpartition(":")
    return f"{file}, line {line}" if file and line.isdecimal() else f"row {row.id}"


def _warn_of_special_tokens(tokenizer: Any, rows: Sequence[Row]) -> None:
    """Count rows with `</s>` and the like in their text: a tokenizer can't tell them from those of the template."""
    texts = (row.completion + "\n".join(turn["content"] for turn in row.messages) for row in rows)
    held = [[token for token in tokenizer.all_special_tokens if token in text] for text in texts]
    if num_rows := sum(map(bool, held)):
        log.warning(
            "train: %d of %d rows hold special tokens of the tokenizer in their own text (%s), and they are read as "
            "such: a turn may end or begin there. Write them otherwise if they are meant as text.",
            *(num_rows, len(rows), ", ".join(sorted({token for tokens in held for token in tokens}))),
        )


def describe_lengths(tokens: Sequence[Tokens], max_length: int | None) -> dict[str, int]:
    """Counts for the stage's record, and what `max_length` does to the rows.

    `truncated_rows` lose the end of their completion; `lost_rows` (some of them) have a prompt that fills `max_length`
    and no completion left to learn from.

    Raises:
        UserError: every row is lost.
    """
    limit = max_length if max_length is not None else max(len(row.input_ids) for row in tokens)
    facts = {
        "rows": len(tokens),
        "tokens": sum(len(row.input_ids) for row in tokens),
        "completion_tokens": sum(sum(row.completion_mask) for row in tokens),
        "longest_row": max(len(row.input_ids) for row in tokens),
        "truncated_rows": sum(len(row.input_ids) > limit for row in tokens),
        "lost_rows": sum(not any(row.completion_mask[:limit]) for row in tokens),
    }
    if facts["lost_rows"] == len(tokens):
        raise UserError(
            f"All {len(tokens)} prompts fill train.args.max_length={max_length} and leave no completion to learn from. "
            f"Set train.args.max_length to {facts['longest_row']} (the longest row)."
        )
    if facts["truncated_rows"]:
        log.warning(
            "train: %d of %d rows are longer than train.args.max_length=%d and are cut (the longest has %d tokens); "
            "%d of them keep no completion and are left out.",
            facts["truncated_rows"],
            len(tokens),
            limit,
            facts["longest_row"],
            facts["lost_rows"],
        )
    return facts
