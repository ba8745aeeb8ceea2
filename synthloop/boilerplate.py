"""What most rows repeat, an instruction in front of each input, makes no two of them alike.

The rule, for whatever compares texts (splits, dedup, novelty, decontamination): n-grams that stand in more than half of
more than `MIN_ROWS` rows are left out of the compared sets. A row of nothing else is compared whole: two such rows are
alike where they are the same.

Limits: where a teacher puts most of a round into one template, the template is left out as well, and copies that differ
in their numbers or names pass. An instruction that fewer rows share counts like any other words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthloop.hashing import U64, Ragged

MIN_ROWS = 50
"""Up to so many rows, what more than half of them repeat may be chance or their only text (chosen, not measured)."""

_NUM_SLOTS = 1 << 20


def is_common(count: int, num_rows: int) -> bool:
    """Whether what stands in `count` of `num_rows` rows says nothing of one of them."""
    return num_rows > MIN_ROWS and count > num_rows / 2


def common(sets: Sequence[Ragged], min_rows: int = MIN_ROWS) -> U64:
    """The n-grams that more than half of all rows of `sets` (chunks of `row_sets`) have, ascending; none among
    `min_rows` rows or fewer."""
    num_rows = sum(len(one.starts) - 1 for one in sets)
    if num_rows <= min_rows:
        return np.zeros(0, np.uint64)
    grams = np.concatenate([one.values for one in sets])
    slots = (grams & np.uint64(_NUM_SLOTS - 1)).astype(np.int64)  # only what is in a full slot has to be sorted
    full = np.bincount(slots, minlength=_NUM_SLOTS) > num_rows / 2
    found, counts = np.unique(grams[full[slots]], return_counts=True)
    return found[counts > num_rows / 2]


def without(sets: Ragged, grams: U64, *, keep_whole: bool = False) -> Ragged:
    """`sets` without `grams`; a row of nothing else is empty, or as it was (`keep_whole`)."""
    if not len(grams):
        return sets
    own: NDArray[np.bool_] = ~np.isin(sets.values, grams)
    rows = sets.row_of_values()
    num_own = np.bincount(rows, weights=own, minlength=len(sets.starts) - 1)
    kept = own | (num_own[rows] == 0) if keep_whole else own
    counts = np.bincount(rows[kept], minlength=len(sets.starts) - 1)
    return Ragged(sets.values[kept], np.concatenate([[0], np.cumsum(counts)]))
