"""Is it free of what is held out: no copy of a probe, gate or test item, in its problem or in its answer.

    curate: {filters: [{name: decontaminate}]}

| rule                                                                          | catches                             |
|-------------------------------------------------------------------------------|-------------------------------------|
| more than `max_overlap` of the n-grams of the shorter text are shared         | copies, changed words, moved        |
| (after Tülu 3, Lambert et al., 2024, arXiv:2411.15124), numbers all alike      | sentences, swapped numbers          |
| a problem shares `long_ngram` words in a row, numbers as they are             | a passage within a longer text      |
| (GPT-3, Brown et al., 2020, arXiv:2005.14165, appendix C)                     |                                     |
| a problem of fewer than `min_words` words is the same, numbers as they are,   | 'walk V;PST', but not 'talk V;PST'; |
| or from 4 words on is whole sentences of a longer text                        | 'Q: What is 12 + 7?'                |

Tülu 3 takes 8-grams; runs of 5 words survive moved sentences. Measured on GSM8K, 200 test items planted among 5,000
training rows (`python -m scripts.bench_curate --contamination DATA_DIR`): refused were all exact, one-word-changed and
number-swapped copies, 199 of those with moved sentences, and 4 training rows, in truth near-copies of test items.

Paraphrase defeats it by degrees: with 9% of the words exchanged for synonyms it caught 84% of the copies, with 17% of
them 49%, and with the sentences moved besides 30%; a free retelling passes. Embeddings or a judge must find those.

Answers are compared by the first rule only, their numbers as they are, from `min_answer_words` on: short ones ('Cost:
4*6=24. #### 24') recur by chance wherever they are right, and so do 13 words of a worked solution (10 of 7,473 in
GSM8K) and, without their numbers, its formulas.

Templated data differs from what is held out in numbers and names alone: there set `normalise_numbers: false`,
`ngram: 8` and `long_ngram: null`, and see the funnel.

Problems are whole conversations. What most rows (real, and of this round) and most of those held out repeat is not
counted (`synthloop.boilerplate`): an instruction in front of each problem is no copy of what is held out.

Limits: translations pass, and number words are English ones. One word changed in a text of fewer than 14 can pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from generate.curation import HELD_OUT, KEEP, FilterContext, refuse
from synthloop import boilerplate
from synthloop.hashing import U64, Ragged, hash_ngrams, row_sets
from synthloop.overlap import OverlapIndex
from synthloop.records import Candidate, Decision
from synthloop.similarity import Words, hashed_words, ngrams, normalise


class Config(BaseModel):
    """Sizes in words. `long_ngram: null` leaves the second rule out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ngram: int = Field(default=5, gt=0)
    max_overlap: float = Field(default=0.5, ge=0, le=1)
    normalise_numbers: bool = True
    long_ngram: int | None = Field(default=13, gt=0)
    min_words: int = Field(default=8, gt=0)
    min_answer_words: int = Field(default=20, gt=0)


NOTHING: U64 = np.zeros(0, np.uint64)


class HeldOut:
    """Held-out texts, and the rules by which others are compared with them: problems by all, answers by the first."""

    def __init__(
        self, cfg: Config, texts: Sequence[tuple[str, str]], others: Sequence[str] = (), *, are_answers: bool = False
    ) -> None:
        """`texts` are (name, text) pairs; what most of them, and most of them and the `others`, repeat is left out."""
        self._cfg = cfg
        self._texts = texts
        self._min_words = cfg.min_answer_words if are_answers else cfg.min_words
        self._normalise_numbers = cfg.normalise_numbers and not are_answers
        self._long_ngram = 0 if are_answers else cfg.long_ngram or 0
        self._common = self._common_passages = NOTHING
        hashed = list(hashed_words([text for _, text in texts]))
        more = list(hashed_words(others))
        self._common = _common(*([self._sets(chunk) for chunk in chunks] for chunks in (hashed, more)))
        if self._long_ngram:
            passages = ([self._passages_of(chunk) for chunk in chunks] for chunks in (hashed, more))
            self._common_passages = _common(*passages)
        sets = [self._sets(chunk) for chunk in hashed]
        self._overlaps = OverlapIndex(sets)
        self._passages = OverlapIndex(self._passages_of(chunk) for chunk in hashed if self._long_ngram)
        self._short: dict[str, str] = {}
        self._openings = OverlapIndex(
            _openings(chunk.words, one.lengths == 0) for chunk, one in zip(hashed, sets, strict=True)
        )
        is_short = [size == 0 for chunk in sets for size in chunk.lengths]
        for (name, text), short in zip(texts, is_short, strict=True):
            if short and not are_answers:
                self._short.setdefault(normalise(text), name)

    def _sets(self, hashed: Words) -> Ragged:
        """The n-grams of each text that are its own; none where it is short."""
        words = hashed.one_number() if self._normalise_numbers else hashed.words
        sets = row_sets(hash_ngrams(words, self._cfg.ngram)).only(words.lengths >= self._min_words)
        return boilerplate.without(sets, self._common)

    def _passages_of(self, hashed: Words) -> Ragged:
        """All runs of `long_ngram` words that are a text's own, numbers as they are; none where it has fewer."""
        size = self._long_ngram
        runs = row_sets(hash_ngrams(hashed.words, size)).only(hashed.words.lengths >= size)
        return boilerplate.without(runs, self._common_passages)

    def check(self, texts: Sequence[str]) -> list[Decision]:
        """The verdict on each text; the score is the share of n-grams."""
        decisions: list[Decision] = []
        for hashed in hashed_words(texts):
            decisions += self._check(texts[len(decisions) : len(decisions) + hashed.num_texts], hashed)
        return decisions

    def _check(self, texts: Sequence[str], hashed: Words) -> list[Decision]:
        cfg, sets, size = self._cfg, self._sets(hashed), self._long_ngram
        decisions = [KEEP] * len(texts)
        overlaps = self._overlaps.above(sets, cfg.max_overlap)
        for row, found in overlaps.items():
            name, _ = self._texts[found.holder]
            decisions[row] = refuse(f"{cfg.ngram}-gram overlap: {found.share:.2f} with {name}", found.share)
        passages = self._passages.above(self._passages_of(hashed), 0) if size else {}
        for row in passages.keys() - overlaps.keys():
            name, held = self._texts[passages[row].holder]
            passage = min(one for one in ngrams(texts[row], size) & ngrams(held, size) if self._is_own(one))
            decisions[row] = refuse(f"{size}-gram: {passage!r} of {name}", passages[row].share)
        openings = self._openings.above(hash_ngrams(hashed.words, _MIN_SENTENCE_WORDS), 0) if self._short else {}
        for row in openings.keys() - overlaps.keys() - passages.keys():
            words = next((one for one in _sentences(texts[row]) if one in self._short), None)
            if words is not None:
                decisions[row] = refuse(f"same text: {words!r} is {self._short[words]}", 1.0)
        return decisions

    def _is_own(self, passage: str) -> bool:
        """Whether `passage`, normalised, is none that most rows repeat."""
        (hashed,) = hashed_words([passage])
        return len(self._passages_of(hashed).values) > 0


_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+|(?<=[。！？：；])|[\n\"“”«»]+")
_MIN_SENTENCE_WORDS, _MAX_SENTENCES = 4, 3  # chosen: shorter ones are said by chance


def _sentences(text: str) -> Iterator[str]:
    """The whole text, and each run of sentences in it that is not too short to say; normalised."""
    yield normalise(text)
    parts = [normalise(one) for one in _SENTENCE_END.split(text) if one]
    for first in range(len(parts)):
        for last in range(first + 1, min(first + _MAX_SENTENCES, len(parts)) + 1):
            run = " ".join(parts[first:last])
            if run.count(" ") + 1 >= _MIN_SENTENCE_WORDS:
                yield run


def _openings(words: Ragged, is_short: NDArray[np.bool_]) -> Ragged:
    """The first words of each short text, as one n-gram: what has none of them has no short text in it."""
    grams = hash_ngrams(words, _MIN_SENTENCE_WORDS)
    return Ragged(grams.values[grams.starts[:-1][is_short]], np.concatenate([[0], np.cumsum(is_short)]))


def _common(held: list[Ragged], others: list[Ragged]) -> U64:
    """What most rows repeat, and most of those held out: not one of these that most of a round copied."""
    return np.intersect1d(boilerplate.common([*held, *others]), boilerplate.common(held, min_rows=0))


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    examples = [(f"{split} {one.id}", one) for split in HELD_OUT for one in ctx.real(split)]
    names, rows, train = [name for name, _ in examples], [one for _, one in examples], ctx.real("train")
    others = ctx.compared(train) + ctx.compared(batch)
    problems = HeldOut(cfg, list(zip(names, ctx.compared(rows), strict=True)), others)
    completions = [one.completion for one in train] + [one.completion for one in batch]
    answers = HeldOut(cfg, [(name, one.completion) for name, one in examples], completions, are_answers=True)
    by_problem = problems.check(ctx.compared(batch))
    by_answer = answers.check([one.completion for one in batch])
    return [by_answer[i] if by_problem[i].keep else by_problem[i] for i in range(len(batch))]
