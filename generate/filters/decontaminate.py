"""Is it free of what is held out: no copy of a probe, gate or test item, in its problem or in its answer.

A text is contaminated when more than `max_overlap` of its word 8-grams stand in one held-out text (after Tülu 3,
Lambert et al., 2024, arXiv:2411.15124), or when it shares a 13-gram with one (GPT-3, Brown et al., 2020,
arXiv:2005.14165, appendix C).

    curate: {filters: [{name: decontaminate}]}

Short texts: a problem of fewer than 8 words is compared whole, normalised. An answer is compared only from
`min_answer_words` on, because short ones ('positive', 'Cost: 4*6=24. #### 24') recur by chance wherever they are right.

Limits: paraphrases and translations pass; templated data shares long n-grams without being copied, see the funnel and
set `long_ngram: null` there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import HELD_OUT, KEEP, FilterContext, refuse
from synthloop.records import Candidate, Decision
from synthloop.similarity import ngrams, normalise, words


class Config(BaseModel):
    """N-gram sizes in words. `long_ngram: null` leaves the second rule out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ngram: int = Field(default=8, gt=0)
    max_overlap: float = Field(default=0.5, ge=0, le=1)
    long_ngram: int | None = Field(default=13, gt=0)
    min_answer_words: int = Field(default=20, gt=0)


class HeldOut:
    """Held-out texts by their n-grams; a text shorter than `ngram` words by the whole of it."""

    def __init__(self, cfg: Config, texts: Iterable[tuple[str, str]]) -> None:
        """`texts` are (name, text) pairs."""
        self._cfg = cfg
        self._names: list[str] = []
        self._holders: dict[str, list[int]] = defaultdict(list)
        self._long: dict[str, int] = {}
        for number, (name, text) in enumerate(texts):
            self._names.append(name)
            for gram in ngrams(text, cfg.ngram):
                self._holders[gram].append(number)
            for gram in self._long_grams(text):
                self._long.setdefault(gram, number)

    def _long_grams(self, text: str) -> set[str]:
        size = self._cfg.long_ngram
        return ngrams(text, size) if size and len(words(text)) >= size else set()

    def check(self, text: str) -> Decision:
        """The verdict on one text; the score is the largest overlap with one held-out text."""
        grams = ngrams(text, self._cfg.ngram)
        shared = Counter(number for gram in grams for number in self._holders.get(gram, ()))
        number, count = min(shared.items(), key=lambda item: (-item[1], item[0]), default=(0, 0))
        overlap = count / len(grams)
        if overlap > self._cfg.max_overlap:
            if len(grams) == 1 and len(words(text)) < self._cfg.ngram:
                return refuse(f"same text: {normalise(text)!r} is {self._names[number]}", overlap)
            return refuse(f"{self._cfg.ngram}-gram overlap: {overlap:.2f} with {self._names[number]}", overlap)
        for gram in sorted(self._long_grams(text)):
            if gram in self._long:
                return refuse(f"{self._cfg.long_ngram}-gram: {gram!r} of {self._names[self._long[gram]]}", overlap)
        return KEEP


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    examples = [(f"{split} {one.id}", one) for split in HELD_OUT for one in ctx.real(split)]
    problems = HeldOut(cfg, [(name, one.input) for name, one in examples])
    answers = HeldOut(cfg, [(name, one.completion) for name, one in examples if _is_long(cfg, one.completion)])
    decisions = []
    for one in batch:
        decision = problems.check(one.input)
        if decision.keep and _is_long(cfg, one.completion):
            decision = answers.check(one.completion)
        decisions.append(decision)
    return decisions


def _is_long(cfg: Config, answer: str) -> bool:
    return len(words(answer)) >= cfg.min_answer_words
