"""Which texts are (nearly) the same: normalisation, word n-grams, an index of near-duplicates.

Candidates come from MinHash-LSH (rensa), the verdict from the exact Jaccard index of the word n-gram sets, so there
are no false positives; the number of bands is chosen so that a pair at the threshold is found with probability
0.999 or more. Everything is deterministic: the permutations have a fixed seed and ties go to the text added first.

Limits: a paraphrase shares few n-grams and passes. Jaccard says nothing of word order beyond n words.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from rensa import RMinHash, RMinHashLSH

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Words; single characters of scripts without spaces; and the signs that tell 12+5 from 12-5. Other punctuation goes.
_TOKEN = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+|[+*/=<>^%]|-(?=\s*\d)")

_NUM_PERM = 128
_SEED = 1
_MIN_RECALL = 0.999


class Match(NamedTuple):
    """A text of the index: its key and the Jaccard index of its n-grams with those asked for, in [0, 1]."""

    key: str
    jaccard: float


def words(text: str) -> list[str]:
    """The words of `text` after NFKC and case folding, punctuation dropped."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _TOKEN.findall(folded) or folded.split()


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


class NearDuplicates:
    """An index of texts that finds those whose word n-gram Jaccard with a given text reaches `threshold`."""

    def __init__(self, threshold: float, ngram: int = 3) -> None:
        self._threshold = threshold
        self._ngram = ngram
        self._lsh = RMinHashLSH(threshold=threshold, num_perm=_NUM_PERM, num_bands=_num_bands(threshold))
        # The texts, not their n-grams: a tenth of the memory, and few candidates need theirs again.
        self._entries: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: str, text: str) -> None:
        """Put `text` into the index. Keys need not be distinct."""
        self._lsh.insert(len(self._entries), _min_hash(ngrams(text, self._ngram)))
        self._entries.append((key, text))

    def candidates(self, text: str) -> list[int]:
        """Positions, in the order of `add`, of the texts that may be near-duplicates of `text`."""
        return sorted(self._lsh.query(_min_hash(ngrams(text, self._ngram))))

    def nearest(self, text: str) -> Match | None:
        """The most similar text at or above the threshold, the one added first among equals; None where none is."""
        grams = ngrams(text, self._ngram)
        best: Match | None = None
        for position in sorted(self._lsh.query(_min_hash(grams))):
            key, other = self._entries[position]
            similarity = jaccard(grams, ngrams(other, self._ngram))
            if similarity >= self._threshold and (best is None or similarity > best.jaccard):
                best = Match(key, similarity)
        return best


def groups(texts: list[str], threshold: float, ngram: int = 3) -> list[int]:
    """One group index per text: near-duplicates, and near-duplicates of those, share one.

    Groups are numbered in the order in which they first appear.
    """
    parent = list(range(len(texts)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    index = NearDuplicates(threshold, ngram)
    for position, text in enumerate(texts):
        grams = ngrams(text, ngram)
        for other in index.candidates(text):
            a, b = sorted((root(position), root(other)))
            if a != b and jaccard(grams, ngrams(texts[other], ngram)) >= threshold:
                parent[b] = a
        index.add(str(position), text)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(position), len(numbers)) for position in range(len(texts))]


def _min_hash(grams: set[str]) -> RMinHash:
    sketch = RMinHash(num_perm=_NUM_PERM, seed=_SEED)
    sketch.update(list(grams))
    return sketch


def _num_bands(threshold: float) -> int:
    """The fewest bands b of r = 128/b rows with 1 - (1 - t^r)^b at the recall (Leskovec et al., MMDS, 3.4.2)."""
    for rows in (64, 32, 16, 8, 4, 2):
        bands = _NUM_PERM // rows
        if 1 - (1 - threshold**rows) ** bands >= _MIN_RECALL:
            return bands
    return _NUM_PERM
