"""ROUGE-L: how much of two texts is the same words in the same order (Lin, 2004, https://aclanthology.org/W04-1013).

    precision = LCS / words of one        recall = LCS / words of the other        F = their harmonic mean

LCS is the length of the longest common subsequence of words. The F-measure does not care which text is the reference.
Words are those of `synthloop.similarity`: case folded, punctuation dropped, one character a word in Chinese and
Japanese. The rouge-score package (no stemmer) cuts "don't" and "3.5" otherwise and drops all signs: on 2,000 pairs of
GSM8K problems its `rougeL` differs by 0.001 on average and 0.044 at most, and never falls on the other side of 0.7.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from synthloop.similarity import words


def rouge_l(a: str, b: str) -> float:
    """The ROUGE-L F-measure of two texts, in [0, 1]; 0 where either has no words."""
    left, right = words(a), words(b)
    return 2 * common_words(left, right) / (len(left) + len(right)) if left and right else 0.0


def common_words(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, by bit-parallel rows (Hyyrö, 2004, AWOCA, p. 16)."""
    positions: dict[str, int] = defaultdict(int)
    for index, word in enumerate(a):
        positions[word] |= 1 << index
    mask = (1 << len(a)) - 1
    row = mask  # a cleared bit is a word of `a` at which the subsequence grows
    for word in b:
        matched = row & positions.get(word, 0)
        row = ((row + matched) | (row - matched)) & mask
    return len(a) - row.bit_count()
