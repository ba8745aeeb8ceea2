"""Seeds by hashing: the same parts give the same number on every machine, whatever ran before.

    derive_seed(run_seed, round, "generate", seed_id, 3)

A killed and resumed run draws what an uninterrupted one draws, because no generator's state is carried along.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from random import Random
from typing import Protocol, TypeVar

Part = str | int


def derive_seed(*parts: Part) -> int:
    """A 31-bit number (every library's seed accepts one) from the SHA-256 of `parts`."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def rng(*parts: Part) -> Random:
    """A generator of its own for `parts`."""
    return Random(hashlib.sha256(json.dumps(parts).encode()).hexdigest())


class Named(Protocol):
    """What `draw` draws."""

    @property
    def id(self) -> str: ...


R = TypeVar("R", bound=Named)


def draw(rows: Sequence[R], count: int, seed: int) -> list[R]:
    """`count` of `rows`, or all where there are fewer, drawn by a hash of `seed` and id; in their own order."""
    ranked = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}:{row.id}".encode()).hexdigest())
    chosen = {row.id for row in ranked[:count]}
    return [row for row in rows if row.id in chosen]
