"""Step-by-step arithmetic word problems, drawn from templates: a GSM8K in miniature, for models of a few megabytes.

    task: {name: word_problems, num_train: 600, num_test: 400, seed: 0}

One real row (slice 'change'):

    input       Tom has 38 dollars and buys 4 pens for 5 dollars each. How much money does Tom have left?
    completion  Cost: 4*5=20.
                Left: 38-20=18.
                #### 18
    answer      18

The slices are the kinds of problem, in the same proportions in every split. 'total', 'left' and 'groups' take one step,
'change', 'compare' and 'share' two, 'times' three. Sums and differences stay below 40, products below 100: few enough
for a model of a megabyte to learn them all.

A problem's split is decided by a hash of its text, so no two splits overlap whatever the seed and the sizes. A third
part, `CORPUS`, is neither 'train' nor 'test': what `scripts/build_quickstart_models.py` trains on comes from it alone.

Limits: the language is a few dozen sentence frames. A good score says that the loop works, not that a model can read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import NamedTuple

from pydantic import Field

from eval.scoring import numeric
from synthloop.records import Example, Score
from synthloop.task import TaskConfig, make_example

METRIC = "exact_match"
CORPUS = "corpus"

# Shares of the text space, chosen so that each part has more problems than anyone asks for.
_SPLIT_OF_BUCKET = ("test", "test", "train", "train", "train") + (CORPUS,) * 5

# ruff: disable[SIM905]
_NAMES = "Tom Mia Sam Ava Ben Zoe Max Eva Leo Ida Dan Amy Joe Kim Ron Liz Ned Sue Ali Pam Jay Meg Tim Uma".split()
_THINGS = (
    "apples pens books shells cards stamps beads nuts pears plums cakes toys "
    "kites balls keys rocks maps cups hats eggs figs buns dolls rings"
).split()
_BOXES = "bags boxes bowls jars trays packs".split()
_DAYS = "Monday Tuesday Friday Sunday".split()
# ruff: enable[SIM905]


class Kind(NamedTuple):
    """A kind of problem: its share of every split, how its numbers are drawn, and the sentences around them."""

    weight: float
    draw: Callable[[Random], dict[str, int]]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    steps: tuple[str, ...]


class Problem(NamedTuple):
    """One drawn problem. `completion` ends `#### {answer}`."""

    kind: str
    input: str
    completion: str
    answer: str


class Config(TaskConfig):
    """Sizes and seed. A larger `num_train` with the same seed starts with the same problems."""

    num_train: int = Field(600, ge=0)
    num_test: int = Field(400, ge=0)
    seed: int = 0


def load(cfg: Config, split: str) -> Iterator[Example]:
    """The first `num_train` or `num_test` distinct problems of the split; there is no 'validation'."""
    size = {"train": cfg.num_train, "test": cfg.num_test}.get(split, 0)
    problems = draw_problems(split, seed=cfg.seed)
    for _ in range(size):
        problem = next(problems)
        yield make_example(
            cfg, input=problem.input, completion=problem.completion, answer=problem.answer, slice=problem.kind
        )


def score(cfg: Config, example: Example, text: str) -> Score:
    """1 where the number after the last `####` (else the last number) is the answer: the scorer of gsm8k."""
    return numeric(example.answer, text)


def draw_problems(split: str, seed: int, weights: Mapping[str, float] | None = None) -> Iterator[Problem]:
    """Distinct problems of 'train', 'test' or `CORPUS`, without end; `weights` replaces the shares of the kinds."""
    rng = Random(f"{split}-{seed}")
    shares = weights or {name: kind.weight for name, kind in KINDS.items()}
    kinds, shares_list = list(shares), list(shares.values())
    seen: set[str] = set()
    while True:
        problem = _draw(rng, rng.choices(kinds, shares_list)[0])
        if problem.input not in seen and split_of(problem.input) == split:
            seen.add(problem.input)
            yield problem


def split_of(text: str) -> str:
    """The split that a problem's text belongs to, by its hash: the same whatever the seed."""
    bucket = hashlib.sha256(text.encode()).digest()[0] % len(_SPLIT_OF_BUCKET)
    return _SPLIT_OF_BUCKET[bucket]


def _draw(rng: Random, kind_name: str) -> Problem:
    kind = KINDS[kind_name]
    numbers = kind.draw(rng)
    name, other = rng.sample(_NAMES, 2)
    day, next_day = rng.sample(_DAYS, 2)
    words = {"name": name, "other": other, "day": day, "next_day": next_day}
    words |= {"things": rng.choice(_THINGS), "boxes": rng.choice(_BOXES)}
    frame = f"{rng.choice(kind.statements)} {rng.choice(kind.questions)}"
    answer = str(numbers["answer"])
    steps = [step.format(**words, **numbers) for step in kind.steps]
    return Problem(kind_name, frame.format(**words, **numbers), "\n".join([*steps, f"#### {answer}"]), answer)


def _total(rng: Random) -> dict[str, int]:
    a, b = rng.randint(3, 19), rng.randint(3, 19)
    return {"a": a, "b": b, "answer": a + b}


def _left(rng: Random) -> dict[str, int]:
    a = rng.randint(8, 38)
    b = rng.randint(3, a - 2)
    return {"a": a, "b": b, "answer": a - b}


def _groups(rng: Random) -> dict[str, int]:
    n, each = rng.randint(2, 9), rng.randint(2, 9)
    return {"n": n, "each": each, "answer": n * each}


def _change(rng: Random) -> dict[str, int]:
    n, each = rng.randint(2, 6), rng.randint(2, 5)
    money = rng.randint(n * each + 2, 40)
    return {"n": n, "each": each, "money": money, "cost": n * each, "answer": money - n * each}


def _compare(rng: Random) -> dict[str, int]:
    a, d = rng.randint(3, 14), rng.randint(2, 11)
    return {"a": a, "d": d, "b": a + d, "answer": a + a + d}


def _share(rng: Random) -> dict[str, int]:
    n, each, k = rng.choice(_EVEN_SHARES)
    return {"n": n, "each": each, "k": k, "all": n * each, "answer": n * each // k}


def _times(rng: Random) -> dict[str, int]:
    a, m = rng.randint(2, 6), rng.randint(2, 5)
    both = a + a * m
    c = rng.randint(2, both - 2)
    return {"a": a, "m": m, "b": a * m, "both": both, "c": c, "answer": both - c}


# (boxes, things in each, friends) with a whole share above 1 that is not the number of boxes or things again.
_EVEN_SHARES = [
    (n, each, k)
    for n in range(2, 10)
    for each in range(2, 10)
    for k in range(2, 10)
    if n * each % k == 0 and n * each > k and k not in (n, each)
]

KINDS: dict[str, Kind] = {
    "total": Kind(
        0.18,
        _total,
        (
            "{name} has {a} {things} and {other} has {b} {things}.",
            "{name} found {a} {things}. Then {name} found {b} more.",
            "{name} picked {a} {things} on {day} and {b} on {next_day}.",
        ),
        (
            "How many {things} is that in all?",
            "How many {things} are there altogether?",
            "What is the total number of {things}?",
        ),
        ("Total: {a}+{b}={answer}.",),
    ),
    "left": Kind(
        0.18,
        _left,
        (
            "{name} had {a} {things} and gave {b} to {other}.",
            "{name} had {a} {things} but lost {b} of them.",
            "{name} bought {a} {things} and then sold {b} to {other}.",
        ),
        (
            "How many {things} does {name} have left?",
            "How many {things} remain?",
            "How many {things} does {name} still have?",
        ),
        ("Left: {a}-{b}={answer}.",),
    ),
    "groups": Kind(
        0.14,
        _groups,
        (
            "{name} has {n} {boxes} with {each} {things} in each.",
            "{name} filled {n} {boxes}. Each holds {each} {things}.",
            "There are {n} {boxes} and {name} puts {each} {things} into each.",
        ),
        (
            "How many {things} is that in all?",
            "How many {things} are there altogether?",
            "What is the total number of {things}?",
        ),
        ("Total: {n}*{each}={answer}.",),
    ),
    "change": Kind(
        0.14,
        _change,
        (
            "{name} has {money} dollars and buys {n} {things} for {each} dollars each.",
            "{name} bought {n} {things} at {each} dollars each and paid with {money} dollars.",
            "{name} took {money} dollars to a shop. {name} chose {n} {things} that cost {each} dollars each.",
        ),
        (
            "How many dollars does {name} have left?",
            "How much money does {name} get back?",
            "How many dollars remain?",
        ),
        ("Cost: {n}*{each}={cost}.", "Left: {money}-{cost}={answer}."),
    ),
    "compare": Kind(
        0.14,
        _compare,
        (
            "{name} has {a} {things}. {other} has {d} more than {name}.",
            "{name} owns {a} {things}, which is {d} fewer than {other} owns.",
            "{other} found {d} more {things} than {name}, who found {a}.",
        ),
        (
            "How many {things} do they have together?",
            "How many {things} do {name} and {other} have in all?",
            "What is the total number of {things}?",
        ),
        ("{other}: {a}+{d}={b}.", "Total: {a}+{b}={answer}."),
    ),
    "share": Kind(
        0.11,
        _share,
        (
            "{name} has {n} {boxes} of {each} {things} and shares them equally among {k} friends.",
            "{k} friends split {n} {boxes} of {each} {things} evenly.",
            "{name} emptied {n} {boxes} with {each} {things} in each, then gave the same to each of {k} friends.",
        ),
        (
            "How many {things} does each friend get?",
            "How many {things} are there for each friend?",
            "What is the number of {things} for one friend?",
        ),
        ("Total: {n}*{each}={all}.", "Each: {all}/{k}={answer}."),
    ),
    "times": Kind(
        0.11,
        _times,
        (
            "{name} has {a} {things} and {other} has {m} times as many. Together they lose {c}.",
            "{other} picked {m} times as many {things} as {name}, who picked {a}. They sold {c} of them.",
            "{name} had {a} {things}. {other} had {m} times that number. The two gave away {c}.",
        ),
        (
            "How many {things} do they still have together?",
            "How many {things} are left?",
            "How many {things} remain?",
        ),
        ("{other}: {a}*{m}={b}.", "Total: {a}+{b}={both}.", "Left: {both}-{c}={answer}."),
    ),
}
