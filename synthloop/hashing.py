"""Words and word n-grams of many texts at once, as 64-bit hashes: numpy over bytes, no Python object per word.

    texts as bytes  ->  hash_words  ->  Ragged words  ->  hash_ngrams  ->  Ragged n-grams  ->  row_sets

A word is hashed as a polynomial over random byte values modulo 2^64, an n-gram as a random linear form of its words'
hashes (multilinear hashing: Lemire and Kaser, "Strongly universal string hashing is fast", 2014, arXiv:1202.4961), both
finished with SplitMix64. The random constants are fixed, so hashes are the same on every run and machine. Among ten
million distinct n-grams the chance that any two share all 64 bits is 3e-6; `row_sets` keeps 52 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

MAX_ROWS = 4096  # rows in one `row_sets`: their number takes 12 of 64 bits
_ROW_BITS = np.uint64(12)
_HASH_BITS = np.uint64(52)

_OTHER, _WORD, _SIGN = 0, 1, 2


class Ragged(NamedTuple):
    """Rows of different lengths, one after the other: row i is `values[starts[i] : starts[i + 1]]`."""

    values: U64  # (total,)
    starts: NDArray[np.int64]  # (rows + 1,)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    def only(self, kept: NDArray[np.bool_]) -> Ragged:
        """The same rows, those not `kept` empty."""
        counts = np.where(kept, self.lengths, 0)
        return Ragged(self.values[np.repeat(kept, self.lengths)], np.concatenate([[0], np.cumsum(counts)]))

    def row_of_values(self) -> NDArray[np.int64]:
        """The row that each value stands in, shape (total,)."""
        return np.repeat(np.arange(len(self.starts) - 1), self.lengths)


def mix(values: U64) -> U64:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): every input bit changes every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def odd_constants(count: int, salt: int) -> U64:
    """`count` fixed random odd numbers; another `salt` gives others."""
    return mix(np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)) | np.uint64(1)


def _kinds() -> NDArray[np.uint8]:
    kinds = np.full(256, _OTHER, np.uint8)
    kinds[[byte for byte in range(256) if byte >= 128 or chr(byte).isalnum() or chr(byte) == "_"]] = _WORD
    kinds[list(b"+*/=<>^%-")] = _SIGN
    return kinds


def _byte_values() -> U64:
    values = odd_constants(256, salt=1)
    values[_KINDS == _OTHER] = 0
    values[list(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")] = values[list(b"abcdefghijklmnopqrstuvwxyz")]
    return values


_KINDS = _kinds()
_BYTE_VALUES = _byte_values()
_IS_DIGIT = np.isin(np.arange(256), list(b"0123456789"))
_STARTS_NUMBER = _IS_DIGIT | (np.arange(256) >= 128)
_IS_SPACE = np.isin(np.arange(256), list(b" \t\n\r\f\v\x1c\x1d\x1e\x1f"))
# By position in a word; it repeats, which only words of more than 1,024 bytes would notice.
_POSITION_VALUES = odd_constants(1024, salt=2)


def hash_words(texts: Sequence[bytes]) -> tuple[Ragged, NDArray[np.bool_]]:
    """The words of each text in order, and which of them are all digits, shape (total words,).

    `texts` are ASCII, or UTF-8 whose words are already case folded and separated by spaces (bytes from 128 on count as
    letters). Words and signs are those of `synthloop.similarity.words`.
    """
    joined = np.frombuffer(bytearray(b"\0" + b"\0".join(texts) + b"\0"), np.uint8)
    _drop_hyphens(joined)
    kinds = _KINDS[joined]
    opening = kinds != _OTHER
    opening[1:] &= (kinds[1:] == _SIGN) | (kinds[:-1] != _WORD)
    opens = np.flatnonzero(opening)
    ends = np.cumsum([0, *(len(text) + 1 for text in texts)])
    starts = np.searchsorted(opens, ends)
    if not len(opens):
        return Ragged(np.zeros(0, np.uint64), starts), np.zeros(0, np.bool_)
    letters = joined[opens[0] :]
    offsets = np.arange(opens[0], len(joined)) - np.repeat(opens, np.diff(opens, append=len(joined)))
    terms = _BYTE_VALUES[letters] * _POSITION_VALUES[offsets & (len(_POSITION_VALUES) - 1)]
    not_digit = np.flatnonzero(~_IS_DIGIT[joined])
    is_digits = _IS_DIGIT[joined[opens]]
    first_other = not_digit[np.searchsorted(not_digit, opens[is_digits])]
    is_digits[is_digits] = kinds[first_other] != _WORD
    return Ragged(mix(np.add.reduceat(terms, opens - opens[0])), starts), is_digits


def _drop_hyphens(joined: NDArray[np.uint8]) -> None:
    """Blank out, in place, each '-' that no number follows: it is a sign only before one."""
    minus = np.flatnonzero(joined == ord("-"))
    if len(minus):
        solid = np.flatnonzero(~_IS_SPACE[joined])
        following = joined[solid[np.searchsorted(solid, minus + 1)]]
        joined[minus[~_STARTS_NUMBER[following]]] = 0


def merge_runs(words: Ragged, marked: NDArray[np.bool_], value: np.uint64) -> Ragged:
    """Each run of `marked` words within a row becomes one word, `value`."""
    row_begins = np.zeros(len(marked) + 1, np.bool_)
    row_begins[words.starts[:-1]] = True
    repeats = marked.copy()
    repeats[1:] &= marked[:-1] & ~row_begins[1:-1]
    repeats[:1] = False
    kept_before = np.concatenate([[0], np.cumsum(~repeats)])
    return Ragged(np.where(marked, value, words.values)[~repeats], kept_before[words.starts])


def hash_ngrams(words: Ragged, n: int) -> Ragged:
    """The n-grams of each row in order, repeats included; the whole row, as one, where it has fewer than `n` words."""
    total, lengths = len(words.values), words.lengths
    assert lengths.all(), "a row has no words"
    left = np.repeat(words.starts[1:], lengths) - np.arange(total)  # words from here to the end of the row
    ahead = np.concatenate([words.values, np.zeros(n, np.uint64)])
    sums = np.zeros(total, np.uint64)
    for k, constant in enumerate(odd_constants(n, salt=3)):
        sums += np.where(left > k, ahead[k : k + total] * constant, np.uint64(0))
    first_of_row = np.zeros(total, np.bool_)
    first_of_row[words.starts[:-1]] = True
    counts = np.maximum(lengths - n + 1, 1)
    return Ragged(mix(sums[(left >= n) | first_of_row]), np.concatenate([[0], np.cumsum(counts)]))


def row_sets(ragged: Ragged) -> Ragged:
    """The distinct values of each row, cut to their upper 52 bits and ascending.

    At most `MAX_ROWS` rows: row number and value are sorted together in one integer.
    """
    assert len(ragged.starts) - 1 <= MAX_ROWS, len(ragged.starts) - 1
    packed = (ragged.row_of_values().astype(np.uint64) << _HASH_BITS) | (ragged.values >> _ROW_BITS)
    packed.sort()
    packed = packed[np.diff(packed, prepend=~packed[:1]) != 0]
    starts = np.searchsorted(packed, np.arange(len(ragged.starts), dtype=np.uint64) << _HASH_BITS)
    if len(ragged.starts) - 1 == MAX_ROWS:
        starts[-1] = len(packed)  # the end of the last possible row does not fit in 64 bits
    return Ragged(packed & ((np.uint64(1) << _HASH_BITS) - np.uint64(1)), starts)
