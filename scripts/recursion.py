"""Generations of a tiny language model, each trained on what the one before wrote: the arms of `study_collapse.py`."""

from __future__ import annotations

import json
import pydoc_data.topics
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval import diversity
from eval.diversity import Reference
from eval.signals import WRITTEN, trends
from eval.trend import Signal
from scripts import word_lm
from scripts.word_lm import Ids, Model, Vocabulary
from synthloop.randomness import derive_seed, rng

ARMS = ("replace", "10% real", "30% real", "50% real", "capped", "accumulate", "real only")

SIGNALS: dict[str, Signal] = {name: trends(500)[name] for name in ("nll", "nll_rare", *WRITTEN)}
"""What is measured of a generation: the signals of a loop that need no task, no slices and no synthetic pool."""

Signals = dict[str, float | None]


class Size(NamedTuple):
    """How large a chain is. Each generation is trained on `num_rows` texts (`capped` and `accumulate` on more) in the
    same number of steps; real ones are drawn anew each time from `num_real`, so that retrains differ by subsample."""

    num_words: int = 1_000
    num_real: int = 600
    num_rows: int = 500
    num_held_out: int = 400
    steps: int = 400
    budget: int = 2_000


class World(NamedTuple):
    """What a seed's chains share: the real texts they train on, the held-out ones, and what is rare in the former."""

    seed: int
    size: Size
    words: Vocabulary
    real: list[Ids]
    held_out: list[Ids]
    reference: Reference
    rare: frozenset[int]


def load_texts(data: Path | None) -> list[list[str]]:
    """The questions of GSM8K in the folder `data`; without one, sentences of Python's own help topics. As words."""
    if data is not None:
        lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)["question"] for line in lines]
    else:
        topics = "\n\n".join(pydoc_data.topics.topics.values())
        texts = [one for part in re.split(r"\n\s*\n", topics) for one in re.split(r"(?<=[.!?])\s+", part)]
    found = list(dict.fromkeys(tuple(diversity.words(text)) for text in texts))
    return [list(text) for text in found if len(text) >= 8]


def make_world(texts: Sequence[list[str]], size: Size, seed: int) -> World:
    """Real and held-out texts drawn by the seed; the vocabulary is that of all texts, the same for every seed."""
    words = word_lm.vocabulary(texts, size.num_words)
    rows = words.encode(texts)
    rng("study", seed).shuffle(rows)
    held_out, real = rows[: size.num_held_out], rows[size.num_held_out :][: size.num_real]
    known = Counter(one for row in real for one in (*row, word_lm.END))
    rare = frozenset(range(size.num_words)) - (known.keys() - diversity.rare_types(known))
    reference = diversity.reference(" ".join(text) for text in words.decode(real))
    return World(seed, size, words, real, held_out, reference, rare)


def chain(world: World, arm: str, num_rounds: int) -> list[Signals]:
    """The signals of rounds 0 to `num_rounds` of one arm. Round 0 is trained on real text alone, in every arm."""
    pools: list[list[Ids]] = []
    measured = []
    for round in range(num_rounds + 1):
        rows = training_rows(world, arm, pools)
        signals, written = generation(world, rows, derive_seed(world.seed, arm if round else "start", round))
        measured.append(signals)
        pools.append(written)
    return measured


def control(world: World, number: int) -> Signals:
    """One retrain on real text alone, with a seed and a subsample of its own."""
    seed = derive_seed(world.seed, "control", number)
    return generation(world, _subsample(world.real, world.size.num_rows, seed), seed)[0]


def training_rows(world: World, arm: str, pools: Sequence[list[Ids]]) -> list[Ids]:
    """What the next generation of an arm is trained on; `pools` is what each one before wrote."""
    seed = derive_seed(world.seed, "rows", arm if pools else "start", len(pools))
    num_rows = world.size.num_rows
    if not pools or arm == "real only":
        return _subsample(world.real, num_rows, seed)
    if arm == "accumulate":
        return [*world.real, *(row for pool in pools for row in pool)]
    if arm == "capped":  # at most as much synthetic as real text, of all rounds
        return [*world.real, *_subsample([row for pool in pools for row in pool], len(world.real), seed)]
    num_real = 0 if arm == "replace" else num_rows * int(arm.split("%")[0]) // 100
    return [*_subsample(world.real, num_real, seed), *pools[-1][: num_rows - num_real]]


def _subsample(rows: Sequence[Ids], count: int, seed: int) -> list[Ids]:
    return rng("subsample", seed).sample(list(rows), min(count, len(rows)))


def generation(world: World, rows: Sequence[Ids], seed: int) -> tuple[Signals, list[Ids]]:
    """Train on `rows`, write, measure: (signals, texts written)."""
    model = word_lm.train(rows, world.size.num_words, world.size.steps, seed % 2**63)
    written = word_lm.generate(model, world.size.num_rows, derive_seed(seed, "write") % 2**63)
    return measure(world, model, written), written


def measure(world: World, model: Model, written: Sequence[Ids]) -> Signals:
    nats, words = word_lm.nll(model, world.held_out)
    is_rare = np.isin(words, list(world.rare))
    texts = world.words.decode(written)
    profile = diversity.profile(diversity.Sample(texts, world.size.budget), world.reference)
    return {
        "nll": float(nats.mean()),
        "nll_rare": float(nats[is_rare].mean()) if is_rare.any() else None,
        **profile,
    }
