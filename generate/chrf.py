"""chrF: how alike two texts are by their character n-grams.

Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015 (https://aclanthology.org/W15-3049).
"""

from __future__ import annotations

from collections import Counter

ORDER = 6
BETA = 2.0
"""Recall counts BETA times as much as precision: chrF2, the default of sacreBLEU."""


def chrf(hypothesis: str, reference: str) -> float:
    """chrF2 of one sentence or text, in [0, 1]; white space does not count.

    Precision and recall are averaged over the orders that both texts are long enough for, as sacreBLEU 2 does it: its
    `sentence_chrf` is 100 times this.
    """
    shared = [_matches(hypothesis, reference, n) for n in range(1, ORDER + 1)]
    counted = [(match, ours, theirs) for match, ours, theirs in shared if ours and theirs]
    if not counted:
        return 0.0
    precision = sum(match / ours for match, ours, _ in counted) / len(counted)
    recall = sum(match / theirs for match, _, theirs in counted) / len(counted)
    weighed = BETA**2 * precision + recall
    return (1 + BETA**2) * precision * recall / weighed if weighed else 0.0


def _matches(hypothesis: str, reference: str, n: int) -> tuple[int, int, int]:
    """(n-grams in common, those of the hypothesis, those of the reference)."""
    ours, theirs = _ngrams(hypothesis, n), _ngrams(reference, n)
    return (ours & theirs).total(), ours.total(), theirs.total()


def _ngrams(text: str, n: int) -> Counter[str]:
    characters = "".join(text.split())
    return Counter(characters[i : i + n] for i in range(len(characters) - n + 1))
