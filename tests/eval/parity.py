"""A task for tests: word problems where any reply of even length is right, so that a random model scores about half."""

from __future__ import annotations

from collections.abc import Iterator

from eval.tasks import word_problems
from synthloop.records import Example, Score

METRIC = "parity"


class Config(word_problems.Config):
    pass


def load(cfg: Config, split: str) -> Iterator[Example]:
    return word_problems.load(cfg, split)


def score(cfg: Config, example: Example, text: str) -> Score:
    even = bool(text) and sum(map(ord, text)) % 2 == 0
    return Score(value=float(even), correct=even, parsed=str(len(text)) if text else None)
