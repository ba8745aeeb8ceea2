"""Rows to token ids: the loop's own `train.jsonl`, or a user's plain JSONL.

Accepted lines:

    {"id": ..., "source": "real", "messages": [...], "completion": "..."}              a `Row` of the loop; or one of
                                                                                       its `Candidate`s (curated.jsonl)
    {"messages": [{"role": "user", ...}, ..., {"role": "assistant", ...}]}             the last turn is the completion
    {"prompt": [{"role": "user", ...}], "completion": [{"role": "assistant", ...}]}
    {"prompt": "How many ...?", "completion": "3 + 4 = 7"}                             one user turn, one assistant turn
    {"input": ..., "output": ...}, {"instruction": ..., "input": ..., "output": ...}   and the other names of fields
                                          that `task: {name: jsonl}` reads, by the same rule (conversations.py)

Each may have a `weight` (1.0 by default): what the row counts in the loss, relative to the others (`train/weights.py`).
Rows without an answer to learn (empty, marked `weight: 0` or `train: false` in the turn, `label: false`) are left out
and counted.

Every row goes through the chat template, string prompts too (TRL would train on those as plain text): what the student
is trained on is then what evaluation and `vllm serve` put to it. Loss falls on the completion only; in a conversation
of several turns that is the last one, and earlier assistant turns are context.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from synthloop.chat import completion_ids, end_ids, prompt_ids, reply_text
from synthloop.config import parse
from synthloop.conversations import LeftOut, Unread, read_conversation, require_filled
from synthloop.errors import UserError
from synthloop.jsonl import read_jsonl
from synthloop.records import Candidate, Record, Row
from synthloop.verdicts import heed_verdict, row_weight

log = logging.getLogger("synthloop.train")

UNREAD_REMEDY = "Join it into the problem, or rename it where it is no part of it."
VERDICT_REMEDY = "Where the field says something else, rename it."
IGNORED = -100
"""The label of a token that the loss is not on, by PyTorch's default."""
SOURCES = get_args(Row.model_fields["source"].annotation)


class Tokens(NamedTuple):
    """One row as the model sees it. `completion_mask` is 1 on the tokens the loss is on; both have the same length."""

    input_ids: list[int]
    completion_mask: list[int]


def completion_of(tokens: Tokens) -> list[int]:
    """The ids that the loss is on."""
    return [id for id, mask in zip(tokens.input_ids, tokens.completion_mask, strict=True) if mask]


def read_training_rows(path: Path, unread: Unread | None = None) -> list[Row]:
    """The rows of `path`, in order. What of a user's lines is not used is counted, in `unread` and in warnings.

    Raises:
        UserError: the file is missing, no row of it is left to train on, or a line has no format listed in the
            module's docstring.
    """
    unread = Unread() if unread is None else unread
    rows = []
    for number, line in read_jsonl(path):
        where = f"{path}, line {number}"
        try:
            rows.append(_row(line, f"{path.stem}:{number}", where, unread))
        except LeftOut as why:
            unread.leave_out(why, where)
    report_unread(path, rows, unread)
    return rows


def loop_row(line: dict[str, Any], where: str) -> Row | None:
    """A line that the loop wrote, a `Row` or a `Candidate`; None for a user's, whose `source` is one of many columns.

    Raises:
        UserError: a value of another kind than the loop writes.
    """
    if _has_keys(line, Row) and line["source"] in SOURCES:
        return parse(Row, line, where)
    return synthetic_row(parse(Candidate, line, where)) if _has_keys(line, Candidate) else None


def _has_keys(line: dict[str, Any], record: type[Record]) -> bool:
    fields = record.model_fields
    return {name for name, one in fields.items() if one.is_required()} <= line.keys() <= fields.keys()


def synthetic_row(candidate: Candidate) -> Row:
    return Row(
        id=candidate.id,
        source="synthetic",
        messages=candidate.messages,
        completion=candidate.completion,
        round=candidate.round,
        depth=candidate.depth,
        slice=candidate.slice,
        rejected=candidate.rejected,
        weight=candidate.weight,
    )


def _row(line: dict[str, Any], id: str, where: str, unread: Unread) -> Row:
    """A line as a row of one conversation. Raises `LeftOut` or `UserError`."""
    weight = row_weight(line, where)
    if (row := loop_row(line, where)) is not None:
        require_filled(row.messages, row.completion)
        return row
    turns, _, read = read_conversation(line, where)
    heeded = heed_verdict(line, read, where, VERDICT_REMEDY)
    unread.add(line, {*read, *heeded, "weight"}, where, UNREAD_REMEDY)
    said = {"messages": tuple(turns[:-1]), "completion": turns[-1]["content"]}
    return Row(id=id, source="real", weight=weight, **said)


def report_unread(path: Path, rows: Sequence[Row], unread: Unread) -> None:
    """Log what of the file is not used, and what is used otherwise than it may seem.

    Raises:
        UserError: no row is left.
    """
    if not rows:
        raise UserError(f"{path}: no rows to train on. {unread.left_out or 'Expected one JSON object a line'}.")
    if unread.left_out:
        log.warning("train: %s: %s.", path, unread.left_out)
    if str(unread):
        log.warning("train: %s: keys that training does not read: %s.", path, unread)
    weights = [row.weight for row in rows]
    if min(weights) != max(weights):
        log.info("train: %s: `weight` scales the loss of each row, from %g to %g.", path, min(weights), max(weights))
    if context := sum(any(turn["role"] == "assistant" for turn in row.messages) for row in rows):
        log.info("train: %s: earlier assistant turns (in %d rows) are context; the last one is learned.", path, context)


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
            raise UserError(f"{place_of(row)}: {error}") from error
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


def place_of(row: Row) -> str:
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


class Cut(NamedTuple):
    """What `max_length` does to a row longer than it: 'start' or 'end' is kept of it, or it is split into 'pieces'.

    In a 'stream' of all rows, cut wherever `max_length` is full, shorter rows are split too.
    """

    max_length: int | None
    keeps: Literal["start", "end", "pieces", "stream"] = "start"

    @property
    def splits(self) -> bool:
        return self.keeps in ("pieces", "stream")

    def __call__(self, ids: list[int]) -> list[int]:
        """What is left of a row's `ids`, or of anything with an entry a token."""
        if self.max_length is None or self.splits:
            return ids
        return ids[-self.max_length :] if self.keeps == "end" else ids[: self.max_length]

    def learns(self, mask: Sequence[int]) -> int:
        """How many tokens of a row with this `mask` are learned: the first of a sequence has none that predicts it.

        In a stream that is the first of few rows, which is not looked at.
        """
        if self.keeps == "stream":
            return sum(mask)
        step = self.max_length if self.keeps == "pieces" and self.max_length is not None else max(len(mask), 1)
        return sum(bit for place, bit in enumerate(mask) if place % step)

    def num_split(self, lengths: Sequence[int]) -> int:
        """How many rows of these lengths are trained in several sequences; of a stream, in the order given."""
        size = self.max_length or sum(lengths)
        if self.keeps == "pieces":
            return sum(length > size for length in lengths)
        count = start = 0
        for place, length in enumerate(lengths if self.keeps == "stream" else ()):
            start = start if place % ROWS_A_STREAM else 0
            count += start // size != (start + length - 1) // size
            start += length
        return count


ROWS_A_STREAM = 1000
"""`wrapped` packs so many rows at once: the batch of `datasets.Dataset.map`."""


def sft_cut(args: Any) -> Cut:
    """How TRL cuts rows under an `SFTConfig`; packing does not read `truncation_mode`."""
    if args.packing:
        strategies: dict[str, Any] = {"bfd_split": "pieces", "wrapped": "stream"}
        return Cut(args.max_length, strategies.get(args.packing_strategy, "start"))
    return Cut(args.max_length, "end" if args.truncation_mode == "keep_end" else "start")


def cut_rows(tokens: Sequence[Tokens], cut: Cut) -> list[Tokens]:
    """The rows as they are trained, in order; those that nothing is learned from are empty."""
    short = [Tokens(cut(one.input_ids), cut(one.completion_mask)) for one in tokens]
    return [one if cut.learns(one.completion_mask) else Tokens([], []) for one in short]


def describe_lengths(tokens: Sequence[Tokens], cut: Cut) -> dict[str, int]:
    """Counts for the stage's record, and what `max_length` does to the rows.

    `truncated_rows` lose a part; `lost_rows` (some of them) have no token left to learn from; `split_rows` are trained
    in pieces.

    Raises:
        UserError: every row is lost.
    """
    lengths = [len(row.input_ids) for row in tokens]
    kept = cut_rows(tokens, cut)
    facts = {
        "rows": len(tokens),
        "tokens": sum(lengths),
        "completion_tokens": sum(sum(row.completion_mask) for row in tokens),
        "longest_row": max(lengths),
        "truncated_rows": 0 if cut.splits else sum(length > (cut.max_length or math.inf) for length in lengths),
        "split_rows": cut.num_split(lengths),
        "lost_rows": sum(not row.input_ids for row in kept),
    }
    if facts["lost_rows"] == len(tokens):
        raise UserError(
            f"All {len(tokens)} prompts fill train.args.max_length={cut.max_length} and leave no completion to learn "
            f"from. Set train.args.max_length to {facts['longest_row']} (the longest row)."
        )
    if changed := facts["truncated_rows"] + facts["split_rows"]:
        log.warning(
            f"train: %d of %d rows {_CUT[cut.keeps]} (the longest has %d tokens); %d of them keep no completion and "
            "are left out.",
            *(changed, len(tokens), cut.max_length, facts["longest_row"], facts["lost_rows"]),
        )
    return facts


_PIECES = "are trained in pieces, the later ones without what stands before them"
_CUT = {
    "start": "are longer than train.args.max_length=%d and are cut",
    "end": "are longer than train.args.max_length=%d and lose their beginning, so that their prompt is not the one of "
    "inference",
    "pieces": f"are longer than train.args.max_length=%d and {_PIECES}",
    "stream": f"cross the end of a pack of train.args.max_length=%d and {_PIECES}",
}


def describe_sequences(dataset: Any) -> dict[str, int]:
    """Counts of what a prepared `SFTTrainer` trains on: its sequences (packs, under packing) and the tokens learned.

    The first token of a sequence, and of a row within a pack of `bfd`, has none before it that predicts it.
    """
    learned = []
    for sequence in dataset.select_columns([name for name in ("labels", "seq_lengths") if name in dataset.features]):
        starts = {0, *accumulate(sequence.get("seq_lengths") or ())}
        learned.append(sum(id != IGNORED and place not in starts for place, id in enumerate(sequence["labels"])))
    empty = sum(not one for one in learned)
    if empty:
        log.warning(
            "train: %d of %d sequences hold no token to learn from, and a step of them learns nothing.",
            empty,
            len(learned),
        )
    return {"sequences": len(learned), "empty_sequences": empty, "learned_tokens": sum(learned)}
