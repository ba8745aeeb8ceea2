"""How synthetic samples differ from real ones: one permutation test per property, each with its effect size.

    report(real, synthetic, seed=0)["summary"]
    '1 of 17 comparisons flagged at a family-wise error rate of 0.05: completion words: location (cliffs_delta -0.98)'

| compared                                         | effect, synthetic minus real                                    |
|--------------------------------------------------|-----------------------------------------------------------------|
| words an input, words a completion: location     | Cliff's delta                                                   |
| the same: variance                               | Cohen's d of |x - median of its side| (Brown and Forsythe 1974,   |
|                                                  | JASA 69:364)                                                    |
| their vocabularies: types a word at equal sizes  | difference of rarefied type-token ratios                        |
| their vocabularies: rare real types covered      | share of the types seen 1 to 3 times in real                    |
| their vocabularies: words unknown to real        | share of the synthetic words                                    |
| their 1-grams and 2-grams, as many texts a side  | Jensen-Shannon divergence                                       |
| label shares, slice shares                       | Cramér's V                                                      |
| numeric answers, numeric fields of JSON objects  | Cohen's d of the mean; the variance as above                    |
| pairs of such fields                             | difference of Pearson correlations                              |
| embeddings                                       | energy coefficient                                              |

`generate/two_sample.py` says whose each one is. A p-value is the share of random exchanges of rows between the sides
that show as large an effect. Holm's procedure corrects over all comparisons of a report: where the sides have the same
distribution, the chance of any flag is at most `error_rate`. Effects have no floor: with thousands of rows trifles are
significant, so read the effect size.

Limits: candidates of one seed depend on one another, and flags then come easier than stated. Some differences are
meant: a loop that aims at failures skews the slices. Variances and correlations are compared around each side's own
centre, which makes these tests exact for many rows only; `scripts/study_fidelity.py` measures their error at few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from generate import two_sample
from generate.comparisons import Comparison, Points, Sample, Skipped, plan
from generate.two_sample import Labellings, Outcome
from synthloop.randomness import derive_seed, rng

MAX_ROWS = 2_000
"""More rows on a side are sampled: the distances of embeddings grow with the square (chosen, not measured)."""

MIN_PERMUTATIONS = 1_999
"""More where there are more comparisons: the smallest p, corrected, is at most a quarter of the error rate."""


def report(
    real: Sequence[Sample],
    synthetic: Sequence[Sample],
    *,
    seed: int,
    error_rate: float = 0.05,
    embeddings: Points | None = None,
) -> dict[str, Any]:
    """Every comparison with its test, ready for JSON.

    Args:
        error_rate: chance of any flag where the sides do not differ (family-wise).
        embeddings: `(rows, width)` of real and of synthetic, in the order of the samples; see `synthloop.embeddings`.

    Returns:
        `comparisons` in a fixed order, each with `name`, `real`, `synthetic`, `effect_name`, `effect`, `p_value`,
        `p_corrected`, `n_real`, `n_synthetic` and `flagged`; `not_tested` with `name` and `reason`; and a `summary`.
        For a divergence, a coverage and an unknown share, which belong to the pair, `synthetic` is the effect and
        `real` what exchanged rows give on average: what it would be if synthetic were real.
    """
    chosen = _sampled(len(real), seed, "real"), _sampled(len(synthetic), seed, "synthetic")
    rows = [real[i] for i in chosen[0]], [synthetic[i] for i in chosen[1]]
    planned = list(plan(rows, _points(embeddings, chosen, (len(real), len(synthetic))), seed))
    comparisons = [one for one in planned if isinstance(one, Comparison)]
    permutations = max(MIN_PERMUTATIONS, math.ceil(4 * len(comparisons) / error_rate))

    @cache
    def draw(n_real: int, n_synthetic: int) -> Labellings:
        return two_sample.labellings(n_real, n_synthetic, permutations, derive_seed(seed, n_real, n_synthetic))

    outcomes = [two_sample.permutation_test(one.statistic, draw(*one.sizes), one.tail) for one in comparisons]
    corrected = two_sample.holm([one.p_value for one in outcomes])
    entries = [
        _entry(one, outcome, p_corrected, error_rate)
        for one, outcome, p_corrected in zip(comparisons, outcomes, corrected, strict=True)
    ]
    return {
        "summary": _summary(entries, error_rate),
        "error_rate": error_rate,
        "correction": "holm",
        "permutations": permutations,
        "rows": {"real": len(real), "synthetic": len(synthetic)},
        "rows_compared": {"real": len(rows[0]), "synthetic": len(rows[1])},
        "comparisons": entries,
        "not_tested": [one._asdict() for one in planned if isinstance(one, Skipped)],
    }


def _sampled(count: int, seed: int, side: str) -> list[int]:
    """All positions, or `MAX_ROWS` of them drawn at random, in order."""
    return sorted(rng(seed, "fidelity", side).sample(range(count), min(count, MAX_ROWS)))


def _points(embeddings: Points | None, chosen: tuple[list[int], list[int]], sizes: tuple[int, int]) -> Points | None:
    if embeddings is None:
        return None
    assert tuple(map(len, embeddings)) == sizes, ("one embedding a sample", [one.shape for one in embeddings], sizes)
    return embeddings[0][chosen[0]], embeddings[1][chosen[1]]


def _entry(one: Comparison, outcome: Outcome, p_corrected: float, error_rate: float) -> dict[str, Any]:
    of_pair = one.real is None
    return {
        "name": one.name,
        "real": outcome.expected if of_pair else one.real,
        "synthetic": outcome.effect if of_pair else one.synthetic,
        "effect_name": one.effect,
        "effect": outcome.effect,
        "p_value": outcome.p_value,
        "p_corrected": p_corrected,
        "n_real": one.sizes[0],
        "n_synthetic": one.sizes[1],
        "flagged": p_corrected < error_rate,
    }


def _summary(entries: list[dict[str, Any]], error_rate: float) -> str:
    flagged = [one for one in entries if one["flagged"]]
    head = f"{len(flagged)} of {len(entries)} comparisons flagged at a family-wise error rate of {error_rate:g}"
    named = ", ".join(f"{one['name']} ({one['effect_name']} {one['effect']:+.2f})" for one in flagged)
    return f"{head}: {named}" if named else head
