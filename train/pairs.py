"""Preference pairs: rows whose `completion` is preferred to `rejected`, read and turned to token ids.

Accepted lines:

    {"id": ..., "source": ..., "messages": [...], "completion": "...", "rejected": "..."}       a `Row` of the loop
    {"id": ..., "seed_id": ..., "messages": [...], "completion": "...", "rejected": "...", ...}   a `Candidate` of the
                                                                    loop: curated.jsonl of a round, as it is
    {"prompt": [...], "chosen": [...], "rejected": [...]}            TRL's format: turns, or strings, which are one turn
    {"chosen": [...], "rejected": [...]}                            whole conversations that differ in the last turn
    {"prompt": "Hi", "chosen": [...], "rejected": [...]}            the same; the prompt stands in them already

The problem has the names of fields that SFT reads too (`synthloop/conversations.py`). A text beside whole conversations
is left aside, as TRL does (`trl.maybe_extract_prompt`): it repeats one of their turns. Turns that are not how those of
`chosen` begin, beside a `chosen` that has a user's turn itself, contradict it and are refused.

A pair whose answers are the same, as text or after `max_length` has cut them, has a gradient of nothing but rounding;
it is left out and counted, as are empty answers and rows of weight 0.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synthloop.conversations import (
    PROBLEMS,
    LeftOut,
    Unread,
    problem_field,
    read_problem,
    read_turns,
    require_filled,
)
from synthloop.errors import UserError
from synthloop.jsonl import read_jsonl
from synthloop.records import Message, Row
from synthloop.verdicts import row_weight
from train.rows import UNREAD_REMEDY, Cut, Tokens, describe_lengths, loop_row, report_unread, tokenise

log = logging.getLogger("synthloop.train")


class PairTokens(NamedTuple):
    """One pair as the model sees it; both completions follow the same prompt. The names are TRL's columns."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


def read_pairs(path: Path, unread: Unread | None = None) -> list[Row]:
    """The rows of `path`, in order. What of a user's lines is not used is counted, in `unread` and in warnings.

    Raises:
        UserError: the file is missing, no row of it is left to train on, a line has no format listed in the module's
            docstring, there are rows without `rejected` (they are counted), or rows of different weight.
    """
    unread = Unread() if unread is None else unread
    rows = []
    for number, line in read_jsonl(path):
        where = f"{path}, line {number}"
        try:
            row = _read(line, f"{path.stem}:{number}", where, unread)
            if row.rejected is not None:
                _require_difference(row)
            rows.append(row)
        except LeftOut as why:
            unread.leave_out(why, where)
    report_unread(path, rows, unread)
    refuse_unpaired(rows, path)
    refuse_weights(rows, path)
    return rows


def _read(line: dict[str, Any], id: str, where: str, unread: Unread) -> Row:
    weight = row_weight(line, where)
    if weight == 0:
        raise LeftOut("`weight` 0")
    if (known := loop_row(line, where)) is not None:
        return known
    row, read = _row(line, id, where)
    unread.add(line, {*read, "weight"}, where, UNREAD_REMEDY)
    return row.model_copy(update={"weight": weight})


def _require_difference(row: Row) -> None:
    """Raises `LeftOut` for a pair that teaches nothing."""
    assert row.rejected is not None
    require_filled(row.messages, row.completion, row.rejected)
    if row.completion.strip() == row.rejected.strip():
        raise LeftOut("a chosen and a rejected answer that are the same")


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


def refuse_weights(rows: Sequence[Row], path: Path) -> None:
    """Raises `UserError` where weights differ: TRL's loss is the plain mean over pairs."""
    weights = sorted({row.weight for row in rows})
    if len(weights) > 1:
        raise UserError(
            f"{path}: the rows have weights from {weights[0]:g} to {weights[-1]:g}, and train.objective: dpo counts "
            "every pair alike. Leave out `weight` (and the filter `reweight`), or the rows that are worth little; "
            "those of weight 0 are left out."
        )


def _row(line: dict[str, Any], id: str, where: str) -> tuple[Row, frozenset[str]]:
    """A user's line as a row, and the fields that say it. Raises `LeftOut` or `UserError`."""
    sides = [read_turns(line, name, "assistant", where) for name in ("chosen", "rejected")]
    if not all(sides):
        raise LeftOut("an empty answer")
    prompt, read = _prompt(line, sides[0], where)
    chosen, rejected = ([*prompt, *side] for side in sides)
    turns = [*chosen, *rejected]
    if chosen[:-1] != rejected[:-1] or len(chosen) < 2 or not turns[-1]["role"] == chosen[-1]["role"] == "assistant":
        raise UserError(
            f"{where}: expected 'chosen' and 'rejected' to be one conversation but for the last turn, the assistant's; "
            f"found {[turn['role'] for turn in chosen]} and {[turn['role'] for turn in rejected]}."
        )
    said = {"completion": chosen[-1]["content"], "rejected": rejected[-1]["content"]}
    return Row(id=id, source="real", messages=tuple(chosen[:-1]), **said), read | {"chosen", "rejected"}


def _prompt(line: dict[str, Any], chosen: list[Message], where: str) -> tuple[list[Message], frozenset[str]]:
    """The turns that go in front of `chosen`, and the fields that were read for it."""
    is_whole = any(turn["role"] == "user" for turn in chosen)
    if not any(name in line for name in PROBLEMS):
        if is_whole:
            return [], frozenset()
        raise UserError(
            f"{where}: no problem before 'chosen' and 'rejected'. Expected it in one of {', '.join(PROBLEMS)}, or in "
            "both as the user's turn."
        )
    name = problem_field(line, where)
    prompt, read = read_problem(line, name, where)
    if not is_whole:
        return prompt, read
    if not isinstance(line[name], list):
        said = {turn["content"].strip() for turn in chosen}
        return [], read if prompt[0]["content"].strip() in said else frozenset()
    if chosen[: len(prompt)] != prompt:
        raise UserError(
            f"{where}: 'chosen' is a whole conversation, and '{name}' is not how it begins: found "
            f"{[turn['role'] for turn in prompt]} and {[turn['role'] for turn in chosen]}. Leave '{name}' out, or let "
            "'chosen' and 'rejected' be the last turn alone."
        )
    return [], read


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


def cut_pairs(pairs: Sequence[PairTokens], max_length: int | None) -> list[PairTokens]:
    """The pairs as they are trained, in order: completions cut at their end, pairs without a difference left out."""
    cut = []
    for one in pairs:
        room = None if max_length is None else max(0, max_length - len(one.prompt_ids))
        chosen, rejected = one.chosen_ids[:room], one.rejected_ids[:room]
        if chosen != rejected:
            cut.append(PairTokens(one.prompt_ids, chosen, rejected))
    return cut


def describe_pairs(pairs: Sequence[PairTokens], max_length: int | None) -> dict[str, int]:
    """Counts for the stage's record, as `rows.describe_lengths` has them; tokens are those of both sides.

    A pair is truncated where its longer side is, and lost where the prompt alone fills `max_length`. `equal_rows` have
    the same two answers within `max_length`.

    Raises:
        UserError: no pair is left.
    """
    longest = [max(one.chosen_ids, one.rejected_ids, key=len) for one in pairs]
    longer = [
        Tokens(one.prompt_ids + ids, [0] * len(one.prompt_ids) + [1] * len(ids))
        for one, ids in zip(pairs, longest, strict=True)
    ]
    completions = sum(len(one.chosen_ids) + len(one.rejected_ids) for one in pairs)
    prompts = sum(len(one.prompt_ids) for one in pairs)
    facts = describe_lengths(longer, Cut(max_length))
    equal = len(pairs) - len(cut_pairs(pairs, max_length)) - facts["lost_rows"]
    if equal:
        told = f"{equal} of {len(pairs)} pairs have the same two answers within train.args.max_length={max_length}"
        if equal + facts["lost_rows"] == len(pairs):
            raise UserError(f"{told}, and no other pair is left. Set it to {facts['longest_row']} (the longest row).")
        log.warning("train: %s; they teach nothing and are left out.", told)
    return {
        **facts,
        "equal_rows": equal,
        "tokens": 2 * prompts + completions,
        "completion_tokens": completions,
    }
