"""Is it new among what was generated: no near-duplicate of what any earlier round kept, or of one before it.

Word 3-gram Jaccard at or above `threshold` is a duplicate (after Lee et al., "Deduplicating Training Data Makes
Language Models Better", 2022, arXiv:2107.06499, who take 0.8 on 5-grams of long documents; 3-grams suit short ones).
Found by MinHash-LSH, decided exactly (`synthloop.similarity`).

    curate: {filters: [{name: dedup, threshold: 0.7}]}

Limits: a paraphrase with other words is new to it. Earlier rounds count whether they were accepted or not. Real data is
not looked at: `novelty` does both, and takes the place of this filter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import KEEP, FilterContext, refuse
from synthloop.records import Candidate, Decision, Example
from synthloop.similarity import distinct, jaccard, ngrams, normalise


class Config(BaseModel):
    """`ngram` words at a time; a problem of fewer words is compared whole (the default is chosen, not measured)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(default=0.8, gt=0, le=1)
    ngram: int = Field(default=3, gt=0)


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    return refuse_repeats(cfg, batch, list(ctx.earlier()))


def refuse_repeats(
    cfg: Config, batch: Sequence[Candidate], earlier: Sequence[Candidate], real: Sequence[tuple[str, Example]] = ()
) -> list[Decision]:
    """Refuse what is like an earlier candidate, a kept one before it, or one of the `real` (split, row) pairs.

    A gold sample may have the problem of a real row on purpose: it is a repeat where its completion is the same too.
    """
    new = _first(
        cfg,
        [
            *((f"real: the real {split} example {one.id}", one.input) for split, one in real),
            *((_synthetic(one), one.input) for one in earlier if not one.gold),
        ],
        [(f"synthetic: {one.id} of this round", one.input) for one in batch if not one.gold],
    )
    solved: dict[str, list[set[str]]] = defaultdict(list)
    pairs = [(one.input, one.completion) for _, one in real]
    for problem, completion in (*pairs, *((one.input, one.completion) for one in earlier if one.gold)):
        solved[normalise(completion)].append(ngrams(problem, cfg.ngram))
    return [_solution(cfg, one, solved) if one.gold else next(new) for one in batch]


def _solution(cfg: Config, one: Candidate, solved: dict[str, list[set[str]]]) -> Decision:
    """Whether a near-duplicate of a gold sample's problem has its completion already; `solved` is kept up to date."""
    problem, others = ngrams(one.input, cfg.ngram), solved[normalise(one.completion)]
    score = max((jaccard(problem, other) for other in others), default=0.0)
    if score >= cfg.threshold:
        return refuse("same solution: a real or an earlier sample of this problem has it", score)
    others.append(problem)
    return KEEP


def _synthetic(one: Candidate) -> str:
    return f"synthetic: {one.id} of round {one.round}"


def _first(cfg: Config, known: Sequence[tuple[str, str]], batch: Sequence[tuple[str, str]]) -> Iterator[Decision]:
    """Keep each of `batch` that is like none that is known or was kept before it; both are ('kind: name', text)."""
    names = [name for name, _ in (*known, *batch)]
    for match in distinct([text for _, text in known], [text for _, text in batch], cfg.threshold, cfg.ngram):
        if match is None:
            yield KEEP
        else:
            kind, _, name = names[match.position].partition(": ")
            yield refuse(f"like {kind}: Jaccard {match.jaccard:.2f} with {name}", match.jaccard)
