"""Is it new among what was generated: no near-duplicate of what any earlier round kept, or of one before it.

Word 3-gram Jaccard at or above `threshold` is a duplicate (after Lee et al., "Deduplicating Training Data Makes
Language Models Better", 2022, arXiv:2107.06499, who take 0.8 on 5-grams of long documents; 3-grams suit short ones).
Found by MinHash-LSH, decided exactly (`synthloop.similarity`).

    curate: {filters: [{name: dedup, threshold: 0.7}]}

Problems are whole conversations, and what most of them repeat is left out (`synthloop.problems`, `boilerplate`).

Limits: a paraphrase with other words is new to it. Earlier rounds count whether they were accepted or not. Real data is
not looked at: `novelty` does both, and takes the place of this filter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import KEEP, FilterContext, refuse
from synthloop.records import Candidate, Decision, Example
from synthloop.similarity import NearDuplicates, distinct, normalise


class Config(BaseModel):
    """`ngram` words at a time; a problem of fewer words is compared whole (the default is chosen, not measured)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(default=0.8, gt=0, le=1)
    ngram: int = Field(default=3, gt=0)


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    return refuse_repeats(cfg, batch, ctx)


def refuse_repeats(
    cfg: Config, batch: Sequence[Candidate], ctx: FilterContext, real: Sequence[tuple[str, Example]] = ()
) -> list[Decision]:
    """Refuse what is like a candidate of an earlier round, a kept one before it, or one of the `real` (split, row)
    pairs.

    A gold sample may have the problem of a real row on purpose: it is a repeat where its completion is the same too.
    """
    rows, earlier = [one for _, one in real], list(ctx.earlier())
    made = [one for one in earlier if not one.gold]
    names = [f"real: the real {split} example {one.id}" for split, one in real] + [_synthetic(one) for one in made]
    new = [one for one in batch if not one.gold]
    decided = _first(
        cfg,
        list(zip(names, ctx.compared([*rows, *made]), strict=True)),
        list(zip((f"synthetic: {one.id} of this round" for one in new), ctx.compared(new), strict=True)),
    )
    solved: list[Example | Candidate] = [*rows, *(one for one in earlier if one.gold)]
    solutions = _solutions(cfg, solved, [one for one in batch if one.gold], ctx)
    return [next(solutions if one.gold else decided) for one in batch]


def _solutions(
    cfg: Config, known: Sequence[Example | Candidate], batch: Sequence[Candidate], ctx: FilterContext
) -> Iterator[Decision]:
    """Whether a near-duplicate of each gold sample's problem, known or kept before it, has its completion already."""
    rows = [*known, *batch]
    completions = [normalise(one.completion) for one in rows]
    index = NearDuplicates(ctx.compared(rows), cfg.threshold, cfg.ngram)
    for position in range(len(known)):
        index.add(position)
    for position in range(len(known), len(rows)):
        same = [one for one in index.matches(position) if completions[one.position] == completions[position]]
        if same:
            score = max(one.jaccard for one in same)
            yield refuse("same solution: a real or an earlier sample of this problem has it", score)
        else:
            index.add(position)
            yield KEEP


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
