"""Preference pairs: rows whose `completion` is preferred to `rejected`, read and turned to token ids.

Accepted lines:

    {"id": ..., "source": ..., "messages": [...], "completion": "...", "rejected": "..."}       a `Row` of the loop
    {"id": ..., "seed_id": ..., "messages": [...], "completion": "...", "rejected": "...", ...}   a `Candidate` of the
                                                                    loop: curated.jsonl of a round, as it is
    {"prompt": [...], "chosen": [...], "rejected": [...]}            TRL's format: turns, or strings, which are one turn
    {"chosen": [...], "rejected": [...]}                            whole conversations that differ in the last turn
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from synthloop.config import parse
from synthloop.conversations import Unread
from synthloop.errors import UserError
from synthloop.jsonl import read_jsonl
from synthloop.records import Candidate, Message, Row
from train.rows import UNREAD_REMEDY, Tokens, describe_lengths, tokenise
from train.sources import synthetic_row

log = logging.getLogger("synthloop.train")


class Pair(BaseModel):
    """A user's line. `chosen` and `rejected` may repeat the turns of `prompt`."""

    prompt: str | list[Message] = []
    chosen: str | list[Message]
    rejected: str | list[Message]


class PairTokens(NamedTuple):
    """One pair as the model sees it; both completions follow the same prompt. The names are TRL's columns."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


def read_pairs(path: Path) -> list[Row]:
    """The rows of `path`, in order. Keys of a user's line that are not read are counted in one warning.

    Raises:
        UserError: the file is missing or has no row, a line has no format listed in the module's docstring, or there
            are rows without `rejected` (they are counted).
    """
    unread = Unread()
    rows = []
    for number, line in read_jsonl(path):
        where = f"{path}, line {number}"
        if "chosen" not in line and "source" in line:
            rows.append(parse(Row, line, where))
        elif "chosen" not in line and "seed_id" in line:
            rows.append(synthetic_row(parse(Candidate, line, where)))
        else:
            rows.append(_row(parse(Pair, line, where), f"{path.stem}:{number}", where))
            unread.add(line, Pair.model_fields, where, UNREAD_REMEDY)
    if not rows:
        raise UserError(f"{path}: no rows to train on. Expected one JSON object a line.")
    if str(unread):
        log.warning("train: %s: keys that training does not read: %s.", path, unread)
    refuse_unpaired(rows, path)
    return rows


def refuse_unpaired(rows: Sequence[Row], path: Path) -> None:
    """Raises `UserError` where rows have no `rejected`, with their number."""
    missing = [row for row in rows if row.rejected is None]
    if missing:
        real = sum(row.source == "real" for row in missing)
        raise UserError(
            f"{path}: {len(missing)} of {len(rows)} rows have no `rejected` ({real} of them real), and "
            "train.objective: dpo learns from pairs alone. Real rows have none, so it can't train on a mix with them: "
            "run the loop with `objective: sft`, and train.run by itself on the pairs of the recipe `preference` "
            "(--data RUN/round-NNN/curated.jsonl)."
        )


def _row(pair: Pair, id: str, where: str) -> Row:
    prompt = _turns(pair.prompt, "user")
    chosen, rejected = (_after(prompt, _turns(one, "assistant")) for one in (pair.chosen, pair.rejected))
    turns = [*chosen, *rejected]
    if chosen[:-1] != rejected[:-1] or len(chosen) < 2 or not turns[-1]["role"] == chosen[-1]["role"] == "assistant":
        raise UserError(
            f"{where}: expected 'chosen' and 'rejected' to be one conversation but for the last turn, the assistant's; "
            f"found {[turn['role'] for turn in chosen]} and {[turn['role'] for turn in rejected]}."
        )
    return Row(
        id=id,
        source="real",
        messages=tuple(chosen[:-1]),
        completion=chosen[-1]["content"],
        rejected=rejected[-1]["content"],
    )


def _turns(value: str | list[Message], role: str) -> list[Message]:
    return [Message(role=role, content=value)] if isinstance(value, str) else value


def _after(prompt: list[Message], turns: list[Message]) -> list[Message]:
    """The whole conversation; `turns` may have the prompt already."""
    return turns if turns[: len(prompt)] == prompt else [*prompt, *turns]


def tokenise_pairs(tokenizer: Any, rows: Sequence[Row], **template_kwargs: Any) -> list[PairTokens]:
    """The rows' token ids, in order: the prompt of inference, and either completion as it follows it."""
    losers = [row.model_copy(update={"completion": row.rejected}) for row in rows]
    return [
        PairTokens(_part(chosen, 0), _part(chosen, 1), _part(rejected, 1))
        for chosen, rejected in zip(
            tokenise(tokenizer, rows, **template_kwargs), tokenise(tokenizer, losers, **template_kwargs), strict=True
        )
    ]


def _part(tokens: Tokens, which: int) -> list[int]:
    """The prompt's ids (0) or the completion's (1)."""
    return [id for id, mask in zip(tokens.input_ids, tokens.completion_mask, strict=True) if mask == which]


def describe_pairs(pairs: Sequence[PairTokens], max_length: int | None) -> dict[str, int]:
    """Counts for the stage's record, as `rows.describe_lengths` has them; tokens are those of both sides.

    A pair is truncated where its longer side is, and lost where the prompt alone fills `max_length`.

    Raises:
        UserError: every pair is lost.
    """
    longest = [max(one.chosen_ids, one.rejected_ids, key=len) for one in pairs]
    longer = [
        Tokens(one.prompt_ids + ids, [0] * len(one.prompt_ids) + [1] * len(ids))
        for one, ids in zip(pairs, longest, strict=True)
    ]
    completions = sum(len(one.chosen_ids) + len(one.rejected_ids) for one in pairs)
    prompts = sum(len(one.prompt_ids) for one in pairs)
    return {
        **describe_lengths(longer, max_length),
        "tokens": 2 * prompts + completions,
        "completion_tokens": completions,
    }
