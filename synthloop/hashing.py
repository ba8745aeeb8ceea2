"""Words and word n-grams of many texts at once, as 64-bit hashes: numpy over bytes, no Python object per word.

    texts as bytes  ->  hash_words  ->  Ragged words  ->  hash_ngrams  ->  Ragged n-grams  ->  row_sets

A word is hashed eight bytes at a time with SplitMix64, an n-gram as a random linear form of its words' hashes
(multilinear hashing: Lemire and Kaser, "Strongly universal string hashing is fast", 2014, arXiv:1202.4961). The
constants are fixed, so hashes are the same on every run and machine. Among ten million distinct n-grams the chance that
any two share all 64 bits is 3e-6; `row_sets` keeps 52 bits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthloop import characters

U64 = NDArray[np.uint64]
Integers = NDArray[np.int64]

MAX_ROWS = 4096  # rows in one `row_sets`: their number takes 12 of 64 bits
_ROW_BITS = np.uint64(12)
_HASH_BITS = np.uint64(52)

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, the step of SplitMix64

SEPARATOR = b"\xff"
"""Stands before each word of a text whose words are known: no UTF-8 has it."""

_OTHER, _WORD, _SIGN, _EITHER = 0, 1, 2, 3
_SIGN_HERE = re.compile(b"(?<=%b).|%b" % (SEPARATOR, characters.SIGN_HERE.encode()))


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
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    return mix(steps + np.uint64(salt)) | np.uint64(1)


def _kinds() -> NDArray[np.uint8]:
    kinds = np.full(256, _OTHER, np.uint8)
    kinds[[byte for byte in range(256) if byte >= 128 or chr(byte).isalnum() or chr(byte) == "_"]] = _WORD
    kinds[list(characters.SIGNS.encode())] = _SIGN
    kinds[list(characters.SOMETIMES_SIGNS.encode())] = _EITHER
    kinds[list(SEPARATOR)] = _OTHER
    return kinds


_KINDS = _kinds()
_IS_DIGIT = np.isin(np.arange(256), list(b"0123456789"))
# The first 0 to 8 bytes of a little-endian word.
_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)


def hash_words(texts: Sequence[bytes]) -> tuple[Ragged, NDArray[np.bool_]]:
    """The words of each text in order, and which of them are all digits, shape (total words,).

    `texts` are ASCII, or words in UTF-8, folded, with a `SEPARATOR` before each. Words and signs are those of
    `synthloop.similarity.words`.
    """
    # Eight bytes more, so that every position has eight bytes from it on.
    joined = bytearray(b"\0" + b"\0".join(texts).lower() + b"\0" * 9)
    array = np.frombuffer(joined, np.uint8)
    kinds = _KINDS[array]
    undecided = np.flatnonzero(kinds == _EITHER)
    kinds[undecided] = [_SIGN if _SIGN_HERE.match(joined, place) else _OTHER for place in undecided.tolist()]
    is_word, is_sign = kinds == _WORD, kinds == _SIGN
    opens = np.flatnonzero(is_sign[1:] | (is_word[1:] & ~is_word[:-1])) + 1
    closes = np.flatnonzero(is_sign[:-1] | (is_word[:-1] & ~is_word[1:])) + 1
    opens, closes = _cut_numbers(array, opens, closes)
    starts = np.searchsorted(opens, np.cumsum([0, *(len(text) + 1 for text in texts)]))
    return Ragged(_hash_spans(array, opens, closes - opens), starts), _IS_DIGIT[array[opens]]


def _cut_numbers(array: NDArray[np.uint8], opens: Integers, closes: Integers) -> tuple[Integers, Integers]:
    """Cut words that begin with digits after them: '12kg' is '12' and 'kg'."""
    not_digit = np.flatnonzero(~_IS_DIGIT[array])
    begins = np.flatnonzero(_IS_DIGIT[array[opens]])
    ends = not_digit[np.searchsorted(not_digit, opens[begins])]
    cuts = ends[ends < closes[begins]]
    if not len(cuts):
        return opens, closes
    return np.insert(opens, np.searchsorted(opens, cuts), cuts), np.insert(closes, np.searchsorted(closes, cuts), cuts)


def _hash_spans(joined: NDArray[np.uint8], opens: NDArray[np.int64], lengths: NDArray[np.int64]) -> U64:
    """A hash of the `lengths` bytes from each of `opens` on, which go eight at a time into SplitMix64."""
    blocks = np.ndarray(len(joined) - 7, "<u8", joined, strides=(1,))  # the eight bytes from each position on
    hashes = mix(lengths.astype(np.uint64) * _GOLDEN)
    rest = np.arange(len(opens))
    while len(rest):
        hashes[rest] = mix(hashes[rest] ^ (blocks[opens[rest]] & _FIRST_BYTES[np.minimum(lengths[rest], 8)]))
        opens, lengths = opens + 8, lengths - 8
        rest = rest[lengths[rest] > 0]
    return hashes


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
    constants = odd_constants(n, salt=3)
    ahead = np.concatenate([words.values, np.zeros(n, np.uint64)])
    sums = np.zeros(total, np.uint64)
    scratch = np.empty(total, np.uint64)
    for k in range(n):
        sums += np.multiply(ahead[k : k + total], constants[k], out=scratch)
    is_short = lengths < n
    short = words.starts[:-1][is_short]
    sums[short] = 0
    for k in range(min(n, lengths[is_short].max(initial=0))):
        sums[short] += np.where(lengths[is_short] > k, ahead[short + k] * constants[k], np.uint64(0))
    counts = np.maximum(lengths - n + 1, 1)
    starts = np.concatenate([[0], np.cumsum(counts)])
    first = np.arange(starts[-1]) + np.repeat(words.starts[:-1] - starts[:-1], counts)
    return Ragged(mix(sums[first]), starts)


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
