"""How varied texts are, at a fixed budget of words, so that a round that writes more does not look more varied.

Words are runs of letters and digits, or single other marks, case kept: 'It costs $5.' has five. Both measures are the
exact expectation over all subsamples of `budget` items without replacement (rarefaction): nothing is random and every
item counts. Where there are fewer items than the budget, all of them are used: compare only values of equal budget.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

_WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def bigrams(text: str) -> list[tuple[str, str]]:
    """Adjacent word pairs within one text."""
    tokens = words(text)
    return list(itertools.pairwise(tokens))


def unigram_entropy(items: Iterable[Hashable], budget: int) -> float | None:
    """The expected plug-in Shannon entropy (nats) of `budget` of `items`; None where there are none.

    Chao et al. 2014, Ecological Monographs 84:45, rarefaction of order q = 1: -sum_k k/m ln(k/m) E[f_k(m)].
    """
    from scipy import stats

    counts, total, size = _sizes(items, budget)
    if not total:
        return None
    k = np.arange(1, size + 1)
    terms = -(k / size) * np.log(k / size)
    # Items that occur equally often share one hypergeometric distribution.
    return float(sum(many * (terms @ stats.hypergeom.pmf(k, total, count, size)) for count, many in counts.items()))


def distinct_share(items: Iterable[Hashable], budget: int) -> float | None:
    """The expected share of distinct items among `budget` of `items` (distinct-n: Li et al. 2016, arXiv:1510.03055).

    Hurlbert 1971, Ecology 52:577: E[S_m] = sum_i 1 - C(N - n_i, m) / C(N, m). None where there are no items.
    """
    from scipy import stats

    counts, total, size = _sizes(items, budget)
    if not total:
        return None
    distinct = sum(many * (1 - float(stats.hypergeom.pmf(0, total, count, size))) for count, many in counts.items())
    return distinct / size


def _sizes(items: Iterable[Hashable], budget: int) -> tuple[Counter[int], int, int]:
    """(how many types occur that often, all items, size of the subsample)."""
    types = Counter(items)
    total = types.total()
    return Counter(types.values()), total, min(budget, total)


def pool(texts: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """(words, bigrams) of all texts together."""
    return [word for text in texts for word in words(text)], [pair for text in texts for pair in bigrams(text)]
