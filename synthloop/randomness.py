"""Seeds by hashing: the same parts give the same number on every machine, whatever ran before.

    derive_seed(run_seed, round, "generate", seed_id, 3)

A killed and resumed run draws what an uninterrupted one draws, because no generator's state is carried along.
"""

from __future__ import annotations

import hashlib
import json
from random import Random

Part = str | int


def derive_seed(*parts: Part) -> int:
    """A 31-bit number (every library's seed accepts one) from the SHA-256 of `parts`."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def rng(*parts: Part) -> Random:
    """A generator of its own for `parts`."""
    return Random(hashlib.sha256(json.dumps(parts).encode()).hexdigest())
