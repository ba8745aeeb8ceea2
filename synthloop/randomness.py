"""Seeds and generators from what they are for: (run seed, round, stage, row id), never from the order of events."""

from __future__ import annotations

import hashlib
import json
import random


def derive_seed(*parts: int | str) -> int:
    """A 31-bit seed that is a function of `parts` alone, on every machine and Python."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def rng(*parts: int | str) -> random.Random:
    """A generator seeded from `parts`."""
    return random.Random(derive_seed(*parts))
