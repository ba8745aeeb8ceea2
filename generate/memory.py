"""A memory stream, local to one conversation: what a persona has seen, and what of it comes to mind.

Park et al., "Generative Agents: Interactive Simulacra of Human Behavior", 2023 (arXiv:2304.03442), section 4.1:

    score = a_recency * recency + a_importance * importance + a_relevance * relevance

with all three weights 1 and each term scaled to [0, 1] over the stream (min-max). Recency is 0.995 to the power of the
hours since the memory was last retrieved, importance a grade of 1 to 10. Relevance is, in the paper, the cosine of
embeddings; here it is the cosine of word counts, which needs no model and misses synonyms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from synthloop.similarity import words

DECAY = 0.995
"""Per hour of the persona's time: section 4.1 of the paper."""


@dataclass
class Memory:
    """One thing remembered. `importance` is 1 to 10, `accessed` the hour it was last thought of."""

    text: str
    importance: int
    accessed: float


class MemoryStream:
    """Memories in the order in which they were added."""

    def __init__(self) -> None:
        self.memories: list[Memory] = []

    @property
    def importance(self) -> int:
        """The sum over all memories; the paper reflects when that of the latest passes a threshold."""
        return sum(one.importance for one in self.memories)

    def add(self, text: str, importance: int, hour: float) -> None:
        self.memories.append(Memory(text, importance, hour))

    def scores(self, query: str, hour: float) -> list[float]:
        """The retrieval score of every memory, in [0, 3]."""
        terms = (
            [DECAY ** (hour - one.accessed) for one in self.memories],
            [float(one.importance) for one in self.memories],
            [relevance(query, one.text) for one in self.memories],
        )
        return [sum(one) for one in zip(*map(scaled, terms), strict=True)]

    def retrieve(self, query: str, hour: float, count: int) -> list[str]:
        """The texts of the `count` best memories, best first, the earliest of equals; they were then accessed now."""
        scores = self.scores(query, hour)
        best = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count]
        for index in best:
            self.memories[index].accessed = hour
        return [self.memories[index].text for index in best]


def relevance(a: str, b: str) -> float:
    """The cosine of the word counts of two texts, in [0, 1]; 0 where one has no word."""
    left, right = Counter(words(a)), Counter(words(b))
    norm = sqrt(sum(n * n for n in left.values()) * sum(n * n for n in right.values()))
    return sum(left[word] * right[word] for word in left) / norm if norm else 0.0


def scaled(values: Sequence[float]) -> list[float]:
    """`values` mapped to [0, 1], the smallest to 0 and the largest to 1; all 0 where they are equal."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]
