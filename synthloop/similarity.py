"""Which texts are (nearly) the same: normalisation, word n-grams, an index of near-duplicates.

Candidates come from MinHash-LSH, the verdict from the exact Jaccard index of the word n-gram sets, so there are no
false positives; the bands are chosen so that a pair at the threshold is found with probability 0.999 or more.
Everything is deterministic: the permutations are fixed and ties go to the text that comes first. Texts are worked on in
chunks of arrays (`synthloop.hashing`), which is what makes it fast: `python -m scripts.bench_curate`.

Limits: a paraphrase shares few n-grams and passes. Jaccard says nothing of word order beyond n words. An n-gram is
known by 52 bits of a hash: that two different ones in a pair of 1,000-word texts look the same has a chance of 1e-9.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import ceil, log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthloop import boilerplate
from synthloop.characters import find_words, fold
from synthloop.hashing import (
    MAX_ROWS,
    SEPARATOR,
    U64,
    Ragged,
    hash_ngrams,
    hash_words,
    merge_runs,
    mix,
    odd_constants,
    row_sets,
)

# What no text has as a word, private use characters, stands for ASCII where that is not in words.
_PRIVATE = {byte: 0xE000 + byte for byte in range(128) if not chr(byte).isspace()}
_NOTHING = chr(0xE000 + 128)  # the word of a text without any: one that _PRIVATE doesn't make

_CHUNK_CHARS = 1 << 17
_MAX_NUM_PERM = 128
_MIN_RECALL = 0.999

NUMBER_WORDS: list[str] = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion",
)
_NUMBER_HASHES = np.sort(hash_words([" ".join(NUMBER_WORDS).encode()])[0].values)
_NUMBER = hash_words([b"0"])[0].values[0]


class Match(NamedTuple):
    """A text found: its position, and the Jaccard index of its n-grams with those asked for, in [0, 1]."""

    position: int
    jaccard: float


class Words(NamedTuple):
    """The hashed words of a chunk of texts, at least one to a text, and which of them are all digits."""

    words: Ragged
    is_digits: NDArray[np.bool_]

    @property
    def num_texts(self) -> int:
        return len(self.words.starts) - 1

    def one_number(self) -> Ragged:
        """The words with every number, and every run of them ('1,000', 'two hundred'), as one and the same word."""
        is_number = self.is_digits | np.isin(self.words.values, _NUMBER_HASHES)
        return merge_runs(self.words, is_number, _NUMBER)


def words(text: str) -> list[str]:
    """The words and signs of `text` (see `synthloop.characters`); of punctuation alone, what is between spaces."""
    return find_words(text) or fold(text).split()


def normalise(text: str) -> str:
    """The words of `text` with one space between them."""
    return " ".join(words(text))


def ngrams(text: str, n: int) -> set[str]:
    """The word n-grams of `text`; the whole text, normalised, where it has fewer than `n` words."""
    tokens = words(text)
    return {" ".join(tokens[i : i + n]) for i in range(max(1, len(tokens) - n + 1))}


def jaccard(a: set[str], b: set[str]) -> float:
    """|a ∩ b| / |a ∪ b|; 1 where both are empty."""
    return len(a & b) / len(a | b) if a or b else 1.0


def hashed_words(texts: Sequence[str]) -> Iterator[Words]:
    """The `words` of all texts as hashes, in order, a chunk of texts at a time."""
    for chunk in _chunks(texts):
        plain = [_plain(text) for text in chunk]
        hashed = hash_words(plain)
        without = np.flatnonzero(hashed[0].lengths == 0)
        if len(without):
            for row in without:
                plain[row] = _stand_in(chunk[row])
            hashed = hash_words(plain)
        yield Words(*hashed)


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    begin = num_chars = 0
    for position, text in enumerate(texts):
        num_chars += len(text)
        if num_chars > _CHUNK_CHARS or position - begin == MAX_ROWS:
            yield texts[begin : max(position, begin + 1)]
            begin, num_chars = max(position, begin + 1), len(text)
    if begin < len(texts):
        yield texts[begin:]


def _plain(text: str) -> bytes:
    """Bytes in which `hash_words` finds the words of `text`."""
    if text.isascii():
        return text.encode()
    found = find_words(text)
    if not found:
        return _stand_in(" ".join(fold(text).split()))
    return b"".join(SEPARATOR + word.encode("utf-8", "surrogatepass") for word in found)


def _stand_in(text: str) -> bytes:
    """For a text of punctuation, or of nothing, words that no text has."""
    return (text.translate(_PRIVATE) if text.strip() else _NOTHING).encode("utf-8", "surrogatepass")


class NearDuplicates:
    """Finds among `texts`, by position, those whose word n-gram Jaccard with one of them reaches `threshold`.

    What most texts repeat is left out of the comparison (`synthloop.boilerplate`).

    All texts are known from the start, those that may be found are `add`ed: most texts share no band with any other and
    then cost nothing more.
    """

    def __init__(self, texts: Sequence[str], threshold: float, ngram: int = 3) -> None:
        self._threshold = threshold
        rows_per_band, num_bands = _bands(threshold)
        sets = [row_sets(hash_ngrams(chunk.words, ngram)) for chunk in hashed_words(texts)]
        shared = boilerplate.common(sets)
        sets = [boilerplate.without(one, shared, keep_whole=True) for one in sets]
        keys = [np.zeros((0, num_bands), np.uint64), *(_band_keys(one, rows_per_band, num_bands) for one in sets)]
        self._grams: U64 = np.concatenate([np.zeros(0, np.uint64), *(one.values for one in sets)])
        self._starts = np.cumsum(np.concatenate([[0], *(one.lengths for one in sets)]))
        self._buckets = _shared_buckets(np.concatenate(keys))
        self._is_alone: NDArray[np.bool_] = np.asarray((self._buckets < 0).all(axis=1))
        self._members: dict[int, list[int]] = defaultdict(list)

    def _buckets_of(self, position: int) -> list[int]:
        if self._is_alone[position]:
            return []
        buckets: list[int] = self._buckets[position].tolist()
        return [bucket for bucket in buckets if bucket >= 0]

    def add(self, position: int) -> None:
        """Let the text at `position` be found."""
        for bucket in self._buckets_of(position):
            self._members[bucket].append(position)

    def matches(self, position: int) -> list[Match]:
        """The added texts at or above the threshold with the text at `position`, in order of their positions."""
        found = {other for bucket in self._buckets_of(position) for other in self._members.get(bucket, ())}
        if not found:
            return []
        own = set(self._set(position).tolist())
        matches = []
        for other in sorted(found):
            theirs = self._set(other)
            if min(len(own), len(theirs)) / max(len(own), len(theirs)) >= self._threshold:  # the most it can be
                num_shared = len(own.intersection(theirs.tolist()))
                score = num_shared / (len(own) + len(theirs) - num_shared)
                if score >= self._threshold:
                    matches.append(Match(other, score))
        return matches

    def _set(self, position: int) -> U64:
        return self._grams[self._starts[position] : self._starts[position + 1]]

    def nearest(self, position: int) -> Match | None:
        """The most similar of `matches`, the first among equals; None where there are none."""
        return max(self.matches(position), key=lambda match: (match.jaccard, -match.position), default=None)


def distinct(known: Sequence[str], batch: Sequence[str], threshold: float, ngram: int = 3) -> list[Match | None]:
    """For each text of `batch` the nearest text that is known or was itself kept; None where it is kept.

    Positions run through `known`, then `batch`. `known` texts are not compared with each other.
    """
    index = NearDuplicates([*known, *batch], threshold, ngram)
    for position in range(len(known)):
        index.add(position)
    found = []
    for position in range(len(known), len(known) + len(batch)):
        found.append(index.nearest(position))
        if found[-1] is None:
            index.add(position)
    return found


def groups(texts: Sequence[str], threshold: float, ngram: int = 3) -> list[int]:
    """One group index per text: near-duplicates, and near-duplicates of those, share one (`components`)."""
    return components(len(texts), links(texts, threshold, ngram))


def links(texts: Sequence[str], threshold: float, ngram: int = 3) -> list[tuple[int, int]]:
    """Pairs of positions, the smaller first, that join all near-duplicates among `texts`."""
    index = NearDuplicates(texts, threshold, ngram)
    pairs = []
    for position in range(len(texts)):
        matches = index.matches(position)
        pairs += [(match.position, position) for match in matches]
        # A text with the very n-grams of one before it would find, and be found by, the same texts.
        if all(match.jaccard < 1.0 for match in matches):
            index.add(position)
    return pairs


def components(size: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """One group index per position below `size`: what `pairs` join, directly or through others, shares one.

    Groups are numbered in the order in which they first appear.
    """
    parent = list(range(size))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for one, other in pairs:
        a, b = sorted((root(one), root(other)))
        parent[b] = a
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(position), len(numbers)) for position in range(size)]


def _bands(threshold: float) -> tuple[int, int]:
    """(rows per band r, bands b): the largest r for which some b gives 1 - (1 - t^r)^b at the recall in budget.

    Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4.2. Below t = 0.053 no b in budget does.
    """
    for rows in range(_MAX_NUM_PERM, 0, -1):
        miss = 1 - threshold**rows
        bands = 1 if miss <= 0 else ceil(log(1 - _MIN_RECALL) / log(miss)) if miss < 1 else _MAX_NUM_PERM + 1
        if rows * bands <= _MAX_NUM_PERM:
            return rows, bands
    return 1, _MAX_NUM_PERM


def _band_keys(sets: Ragged, rows_per_band: int, num_bands: int) -> U64:
    """MinHash (Broder, 1997) by multiplication with random odd numbers, folded into one key a band: (rows, bands)."""
    constants = odd_constants(2 * num_bands * rows_per_band, salt=4).reshape(num_bands, rows_per_band, 2)
    keys = np.zeros((num_bands, len(sets.starts) - 1), np.uint64)
    scratch = np.empty_like(sets.values)
    for key, band in zip(keys, constants, strict=True):
        for multiplier, weight in band:
            np.multiply(sets.values, multiplier, out=scratch)
            key += np.minimum.reduceat(scratch, sets.starts[:-1]) * weight
    return mix(keys).T


def _shared_buckets(keys: U64) -> NDArray[np.int32]:
    """Keys as numbers that are distinct between bands; -1 where no other text has the key. Shape (texts, bands)."""
    buckets = np.full(keys.shape, -1, np.int32)
    num_buckets = 0
    for band in range(keys.shape[1]):
        _, numbers, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        renumbered = np.where(counts > 1, num_buckets + np.cumsum(counts > 1) - 1, -1)
        buckets[:, band] = renumbered[numbers]
        num_buckets += int((counts > 1).sum())
    return buckets
