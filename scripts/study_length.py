"""Do replies that only get longer, shorter or laid out otherwise look like a collapse, and is a real one seen in them?

    python -m scripts.study_length                     200 runs of each kind
    python -m scripts.study_length --runs 20           quicker
    python -m scripts.study_length --only longer       the kinds whose names hold this

Text is that of Python's help: each prompt of a run has a topic, and a reply is a stretch of it from a place of its own,
so that its variety does not depend on its length. Replies and kept rows change alike from round to round. Each run has
controls of its own, at the length of round 1; its verdict after each round is that of the loop (`eval/signals.py`,
`eval/trend.py`, default settings). Fit has no part in this: nothing is trained, and `nll` is not measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pydoc_data.topics
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from eval import collapse, diversity, signals, stats, trend
from eval.diversity import Reference, Sample
from eval.signals import Observation
from synthloop.config import Collapse
from synthloop.records import Completion
from synthloop.store import write_json
from synthloop.terminal import open_console

ROUNDS, NUM_CONTROLS, NUM_PROMPTS, NUM_SEEDS, NUM_ROWS, NUM_REAL = 6, 12, 64, 120, 90, 200
LENGTH, SPREAD = 48, 0.4
"""Mean words of a reply in round 1, and the standard deviation of their logarithms."""

STEP = 0.25
"""So many more of the replies a round are laid out otherwise, or copies, or loops."""

CAUGHT_BY = 4
OPENING = "Sure! Here is a clear and complete answer to your question, step by step:"
CLOSING = "I hope this helps! Let me know if you have any other questions."


class Kind(NamedTuple):
    """What changes from round to round: the length of texts and the number of kept rows, each by a factor, how more and
    more of the replies are laid out, and how their variety is lost, if it is."""

    name: str
    growth: float = 1.0
    kept: float = 1.0
    joined: bool = False
    layout: str = ""
    loss: str = ""


KINDS = (
    Kind("as long"),
    Kind("longer by 20%", growth=1.2),
    Kind("shorter by 20%", growth=0.8),
    Kind("longer by 20%, joined of several topics", growth=1.2, joined=True),
    Kind("fewer kept rows by 20%", kept=0.8),
    Kind("lists in Markdown", layout="lists"),
    Kind("numbered steps", layout="steps"),
    Kind("a fixed opening and closing", layout="ends"),
    *(
        Kind(f"collapse: {name}, {length}", growth, loss=loss)
        for loss, name in (("copies", "copies of three replies"), ("words", "half the words"), ("loops", "loops"))
        for length, growth in (("as long", 1.0), ("longer by 20%", 1.2), ("shorter by 20%", 0.8))
    ),
)


class Language(NamedTuple):
    """Topics as words, the chance of each to be asked about (by its length), and words by how often they occur."""

    topics: list[list[str]]
    chances: NDArray[np.float64]
    ranked: list[str]
    rank: dict[str, int]


class World(NamedTuple):
    """What the rounds of a run share."""

    topics: list[int]
    row_topics: list[int]
    reference: Reference
    per_reply: int
    per_row: int


class Outcome(NamedTuple):
    """The first round with an alarm, None where there is none, and the signals that gave it."""

    round: int | None
    signals: tuple[str, ...]


@cache
def language() -> Language:
    topics = [words for text in pydoc_data.topics.topics.values() if len(words := diversity.words(text)) >= 400]
    sizes = np.array([len(one) for one in topics], dtype=float)
    ranked = [word for word, _ in Counter(word for one in topics for word in one).most_common()]
    return Language(topics, sizes / sizes.sum(), ranked, {word: place for place, word in enumerate(ranked)})


def run(kind: Kind, seed: int) -> Outcome:
    """One run with its controls. Rounds after the first alarm are not looked at."""
    generator = np.random.default_rng(seed)
    calm = kind._replace(growth=1.0, kept=1.0, layout="", loss="")
    asked = generator.choice(len(language().topics), p=language().chances, size=NUM_PROMPTS + NUM_ROWS).tolist()
    real = [" ".join(write(calm, 1, topic, generator)) for topic in generator.choice(asked, size=NUM_REAL).tolist()]
    budgets = (collapse.words_per_text(real, most) for most in (collapse.WORDS_PER_REPLY, collapse.WORDS_PER_ROW))
    world = World(asked[:NUM_PROMPTS], asked[NUM_PROMPTS:], diversity.reference(real), *budgets)
    tested, rule = signals.trends(NUM_PROMPTS), collapse.rule(Collapse(), ROUNDS)
    retrains = [measure(world, calm, 1, generator) for _ in range(NUM_CONTROLS)]
    controls = {name: [value for one in retrains if (value := one[name]) is not None] for name in tested}
    history: dict[str, dict[int, float | None]] = {name: {} for name in tested}
    for round in range(1, ROUNDS + 1):
        measured = measure(world, kind, round, generator)
        for name in tested:
            history[name][round] = measured[name]
        alarms = [one.signal for one in trend.judge(history, tested, controls, rule).tests if one.alarm]
        if alarms:
            return Outcome(round, tuple(alarms))
    return Outcome(None, ())


def measure(world: World, kind: Kind, round: int, generator: np.random.Generator) -> dict[str, float | None]:
    """Every signal of a round."""
    texts = [write(kind, round, topic, generator) for topic in world.topics]
    num_rows = round_number(NUM_ROWS * kind.kept ** (round - 1))
    rows = [write(kind, round, topic, generator) for topic in world.row_topics[:num_rows]]
    seen = Observation(
        likelihood=None,
        scores={"value": float(generator.binomial(200, 0.6)) / 200, "slices": {}},
        replies=[_reply(words) for words in texts],
        written=Sample(texts, world.per_reply * NUM_PROMPTS, world.per_reply),
        real=world.reference,
        pool=replace(collapse.pool_sample([], world.per_row, NUM_SEEDS), texts=rows),
        real_pool=world.reference,
        mix=None,
    )
    return signals.measure(seen)


def round_number(value: float) -> int:
    return int(value + 0.5)


def _reply(words: list[str]) -> Completion:
    return Completion(
        request_id="r", text=" ".join(words), finish_reason="stop", prompt_tokens=1, completion_tokens=len(words)
    )


def write(kind: Kind, round: int, topic: int, generator: np.random.Generator) -> list[str]:
    """A text of the round on a topic, as words."""
    mean = LENGTH * kind.growth ** (round - 1)
    length = max(1, round_number(mean * np.exp(SPREAD * generator.normal() - SPREAD**2 / 2)))
    is_new = generator.random() < STEP * (round - 1)
    if kind.joined:
        parts = [_stretch(int(generator.integers(len(language().topics))), 12, generator) for _ in range(0, length, 12)]
        words = [word for part in parts for word in part][:length]
    elif kind.loss == "copies" and is_new:
        words = language().topics[int(generator.integers(3))][:length]
    else:
        words = _stretch(topic, length, generator)
    if kind.loss == "loops" and is_new:
        words = [words[place % 8] for place in range(length)] if length > 8 else words
    if kind.loss == "words":
        size = len(language().ranked) // 2 ** (round - 1)
        words = [language().ranked[language().rank[word] % size] for word in words]
    return diversity.words(LAYOUTS[kind.layout](words)) if kind.layout and is_new else words


def _stretch(topic: int, length: int, generator: np.random.Generator) -> list[str]:
    words = language().topics[topic]
    start = int(generator.integers(max(1, len(words) - length)))
    return words[start : start + length]


def _pieces(words: Sequence[str]) -> list[list[str]]:
    return [list(words[place : place + 12]) for place in range(0, len(words), 12)]


LAYOUTS: dict[str, Any] = {
    "lists": lambda words: "\n".join(f"- **{' '.join(one[:2])}** {' '.join(one[2:])}" for one in _pieces(words)),
    "steps": lambda words: "\n".join(f"Step {n}: {' '.join(one)}" for n, one in enumerate(_pieces(words), start=1)),
    "ends": lambda words: f"{OPENING}\n\n{' '.join(words)}\n\n{CLOSING}",
}


def main() -> None:
    """Simulate the runs of each kind, print a line of each as it is done, and write it all."""
    arguments = parser().parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # one process a core; read by the workers when they start
    found: dict[str, Any] = {}
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        for kind in KINDS:
            if arguments.only in kind.name:
                found[kind.name] = summarise(list(pool.map(partial(run, kind), range(arguments.runs), chunksize=5)))
                print(kind.name, found[kind.name], flush=True)
    write_json(arguments.out, found)
    print_table(open_console(), found)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=200, help="of each kind")
    options.add_argument("--only", default="", help="part of the names of the kinds to run")
    options.add_argument("--out", type=Path, default=Path("runs/study_length.json"))
    options.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return options


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Runs with an alarm at all and by round `CAUGHT_BY`, of how many, and in how many each signal alarmed first."""
    rounds = [one.round for one in outcomes if one.round is not None]
    return {
        "runs": len(outcomes),
        "alarms": len(rounds),
        "early": sum(round <= CAUGHT_BY for round in rounds),
        "signals": dict(Counter(name for one in outcomes for name in one.signals).most_common()),
    }


def print_table(console: Console, found: dict[str, Any]) -> None:
    table = Table(
        title=f"runs of {ROUNDS} rounds, stated: at most {Collapse().alpha:.0%} with any alarm where no variety is lost"
    )
    for heading in ("replies", "runs", "alarm ever", f"alarm by round {CAUGHT_BY}", "first by"):
        table.add_column(heading)
    for name, one in found.items():
        first = ", ".join(f"{signal} {count}" for signal, count in list(one["signals"].items())[:3])
        table.add_row(name, str(one["runs"]), _rate(one, "alarms"), _rate(one, "early"), first)
    console.print(table)


def _rate(one: dict[str, Any], what: str) -> str:
    """A count with its 95% interval (Wilson 1927)."""
    rate = stats.wilson(one[what], one["runs"])
    return f"{one[what]} [{rate.low:.1%}, {rate.high:.1%}]"


if __name__ == "__main__":
    main()
