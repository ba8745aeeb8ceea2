"""Which of a few held texts shares the most n-grams with each of many: an inverted index over hashed n-grams.

    index = OverlapIndex(sets of the held texts)
    index.above(sets of a chunk of texts, 0.5)  ->  {row: Overlap(holder, share)}

The share is the overlap coefficient |a ∩ b| / min(|a|, |b|): 1 where the shorter text stands whole in the longer one.
A filter of one byte a slot tells for most n-grams, without a search, that no held text has them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthloop.hashing import Ragged

Integers = NDArray[np.int64]

# Of (text, holder) pairs counted at a time: bounds the memory where every text shares n-grams with every holder.
_MAX_PAIRS = 1 << 21
_SLOTS_PER_GRAM = 16


class Overlap(NamedTuple):
    """The held text, by number, that shares the most, and the share, in (0, 1]."""

    holder: int
    share: float


class OverlapIndex:
    """Held texts by their n-grams, numbered in the order given; a row without n-grams is never found."""

    def __init__(self, sets: Iterable[Ragged]) -> None:
        """`sets` are chunks, in order. Where rows repeat n-grams (no `row_sets`), shares count them as often."""
        chunks = list(sets)
        self._sizes: Integers = np.concatenate([np.zeros(0, np.int64), *(chunk.lengths for chunk in chunks)])
        grams = np.concatenate([np.zeros(0, np.uint64), *(chunk.values for chunk in chunks)])
        order = np.argsort(grams, kind="stable")
        self._holders: Integers = np.repeat(np.arange(len(self._sizes)), self._sizes)[order]
        self._grams, first = np.unique(grams[order], return_index=True)
        self._starts: Integers = np.append(first, len(grams))
        num_slots = 1 << (_SLOTS_PER_GRAM * len(self._grams)).bit_length()
        self._slot_mask = np.uint64(num_slots - 1)
        self._may_hold = np.zeros(num_slots, np.bool_)
        self._may_hold[self._grams & self._slot_mask] = True

    def above(self, sets: Ragged, share: float) -> dict[int, Overlap]:
        """For each row with a share above `share`: its largest, with the first holder among equals."""
        hits = np.flatnonzero(self._may_hold[sets.values & self._slot_mask])
        places = np.searchsorted(self._grams, sets.values[hits])
        is_held = np.take(self._grams, places, mode="clip") == sets.values[hits] if len(self._grams) else hits < 0
        hits, places = hits[is_held], places[is_held]
        rows = np.searchsorted(sets.starts, hits, side="right") - 1
        found: dict[int, Overlap] = {}
        for piece in _pieces(rows, self._starts[places + 1] - self._starts[places]):
            found |= self._count(rows[piece], places[piece], sets.lengths, share)
        return found

    def _count(self, rows: Integers, places: Integers, sizes: Integers, above: float) -> dict[int, Overlap]:
        num_holders = self._starts[places + 1] - self._starts[places]
        skipped = self._starts[places] - (np.cumsum(num_holders) - num_holders)
        holders = self._holders[np.arange(num_holders.sum()) + np.repeat(skipped, num_holders)]
        pairs, counts = np.unique(np.repeat(rows, num_holders) * len(self._sizes) + holders, return_counts=True)
        pair_rows, pair_holders = np.divmod(pairs, len(self._sizes))
        shares = counts / np.minimum(sizes[pair_rows], self._sizes[pair_holders])
        best: dict[int, Overlap] = {}
        for index in np.flatnonzero(shares > above):
            row, share = int(pair_rows[index]), float(shares[index])
            if row not in best or share > best[row].share:
                best[row] = Overlap(int(pair_holders[index]), share)
        return best


def _pieces(rows: Integers, num_pairs: Integers) -> list[Integers]:
    """Positions in `rows` (ascending) in pieces of whole rows, of about `_MAX_PAIRS` pairs each."""
    if not len(rows):
        return []
    before = np.cumsum(num_pairs) - num_pairs
    first_of_row = np.searchsorted(rows, rows)
    piece = before[first_of_row] // _MAX_PAIRS
    return np.split(np.arange(len(rows)), np.flatnonzero(np.diff(piece)) + 1)
