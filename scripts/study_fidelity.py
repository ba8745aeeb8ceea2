"""How often the fidelity report flags: halves of one data set, where it must not, and damaged data, where it must.

    python scripts/study_fidelity.py                                    word problems, 100 rows against 100
    python scripts/study_fidelity.py configs/trec.yaml --rows 100       or the task of any config, with its overrides
    python scripts/study_fidelity.py --embed quickstart/student         embeddings too, of that model

Each repetition draws rows of the task's train split at random, splits them into halves, damages the second or leaves it
as it is, and counts reports with any flag. Shares have exact 95% intervals (Clopper and Pearson 1934, Biometrika
26:404). The share of undamaged halves with a flag should not be above the report's error rate.

    truncated completions, inputs   the second half of the words is cut off
    skewed slices                   rows of the commonest slice are five times as likely
    narrowed vocabulary             words outside the most frequent types, 80% of all words, become one of those
    structured halves               the first numbers of a problem as JSON, {"a": 38, "b": 4, "sum": 42}; undamaged
    decorrelated fields             the same with the `sum` of another row
    narrowed fields                 the same with every number half-way to the mean of its field
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from generate import fidelity
from synthloop.config import load_config
from synthloop.randomness import rng
from synthloop.records import Example
from synthloop.task import open_task

Rows = list[Example]
Damage = Callable[[Rows, Sequence[Example], Random], Rows]
"""(rows, all rows there are to draw from, generator) -> damaged rows, as many."""


def unchanged(rows: Rows, pool: Sequence[Example], random: Random) -> Rows:
    return rows


def truncated_completions(rows: Rows, pool: Sequence[Example], random: Random) -> Rows:
    return [one.model_copy(update={"completion": half(one.completion)}) for one in rows]


def truncated_inputs(rows: Rows, pool: Sequence[Example], random: Random) -> Rows:
    return [one.model_copy(update={"input": half(one.input)}) for one in rows]


def half(text: str) -> str:
    """The first half of the words, at least one."""
    tokens = text.split()
    return " ".join(tokens[: max(1, len(tokens) // 2)])


def skewed_slices(rows: Rows, pool: Sequence[Example], random: Random) -> Rows:
    """Draws without replacement from the pool, by keys u^(1/w) (Efraimidis and Spirakis 2006)."""
    commonest = Counter(one.slice for one in pool).most_common(1)[0][0]
    keyed = sorted(pool, key=lambda one: random.random() ** (1 / (5 if one.slice == commonest else 1)))
    return keyed[-len(rows) :]


def narrowed_vocabulary(rows: Rows, pool: Sequence[Example], random: Random) -> Rows:
    """The types of inputs that make up 80% of the words stay; each other becomes one of them, drawn by frequency."""
    counts = Counter(itertools.chain(*(one.input.split() for one in pool)))
    types, weights = zip(*counts.most_common(), strict=True)
    num_kept = sum(reached <= 0.8 * counts.total() for reached in itertools.accumulate(weights))
    other = {word: random.choices(types[:num_kept], weights[:num_kept])[0] for word in types[num_kept:]}
    return [
        one.model_copy(update={"input": " ".join(other.get(word, word) for word in one.input.split())}) for one in rows
    ]


def structured(rows: Rows, pool: Sequence[Example], random: Random) -> Rows:
    return [one.model_copy(update={"completion": json.dumps(fields(one))}) for one in rows]


def decorrelated_fields(rows: Rows, pool: Sequence[Example], random: Random) -> Rows:
    numbers = [fields(one) for one in rows]
    sums = [one["sum"] for one in numbers if one]
    random.shuffle(sums)
    changed = [{**one, "sum": sums.pop()} if one else one for one in numbers]
    return [one.model_copy(update={"completion": json.dumps(new)}) for one, new in zip(rows, changed, strict=True)]


def narrowed_fields(rows: Rows, pool: Sequence[Example], random: Random) -> Rows:
    numbers = [fields(one) for one in rows]
    means = {name: statistics.fmean(one[name] for one in numbers if name in one) for name in set().union(*numbers)}
    changed = [{name: (value + means[name]) / 2 for name, value in one.items()} for one in numbers]
    return [one.model_copy(update={"completion": json.dumps(new)}) for one, new in zip(rows, changed, strict=True)]


def fields(one: Example) -> dict[str, float]:
    """The first two numbers of the problem and their sum; nothing where there are fewer."""
    numbers = [float(value) for value in re.findall(r"\d+", one.input)[:2]]
    return {"a": numbers[0], "b": numbers[1], "sum": sum(numbers)} if len(numbers) == 2 else {}


CASES: dict[str, tuple[Damage, Damage, str]] = {
    "halves": (unchanged, unchanged, ""),
    "truncated completions": (unchanged, truncated_completions, "completion words: location"),
    "truncated inputs": (unchanged, truncated_inputs, "input words: location"),
    "skewed slices": (unchanged, skewed_slices, "slice shares"),
    "narrowed vocabulary": (unchanged, narrowed_vocabulary, "input vocabulary: types a word"),
    "structured halves": (structured, structured, ""),
    "decorrelated fields": (structured, decorrelated_fields, "fields a, sum: correlation"),
    "narrowed fields": (structured, narrowed_fields, "field a: variance"),
}
"""Case -> (what becomes of the real half, what becomes of the other, the comparison to expect)."""


def flags(
    case: str, pool: Sequence[Example], num_rows: int, repetition: int, model: str | None = None
) -> dict[str, bool]:
    """Comparison -> whether it is flagged, in one repetition of `case`, `num_rows` a side."""
    of_real, of_synthetic, _ = CASES[case]
    random = rng("study", case, repetition)
    drawn = random.sample(list(pool), 2 * num_rows)
    real, rest = drawn[:num_rows], drawn[num_rows:]
    # A damage that draws rows of its own must not draw those of the real half.
    taken = {one.id for one in real}
    others = [one for one in pool if one.id not in taken]
    real, synthetic = of_real(real, pool, random), of_synthetic(rest, others, random)
    points = None
    if model is not None:
        from synthloop.embeddings import embed

        rows = embed([f"{one.input}\n{one.completion}" for one in (*real, *synthetic)], model)
        points = rows[:num_rows], rows[num_rows:]
    found = fidelity.report(real, synthetic, seed=repetition, embeddings=points)
    return {one["name"]: one["flagged"] for one in found["comparisons"]}


def clopper_pearson(count: int, n: int) -> tuple[float, float]:
    """The exact 95% interval of a proportion."""
    from scipy import stats

    interval = stats.binomtest(count, n).proportion_ci(method="exact")
    return float(interval.low), float(interval.high)


def main() -> None:
    """Run every case and print what was flagged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?", default=Path("configs/quickstart.yaml"))
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--rows", type=int, default=100, help="rows a side")
    parser.add_argument("--repetitions", type=int, default=200, help="of the undamaged halves; a tenth of the others")
    parser.add_argument("--embed", metavar="MODEL", help="folder or hub id of the model whose embeddings are compared")
    arguments = parser.parse_args()
    task = open_task(*task_of(arguments.config, arguments.overrides))
    pool = list(task.load("train"))
    table = Table(title=f"{arguments.config}: {arguments.rows} rows a side of {len(pool)}", title_justify="left")
    for heading in ("case", "reports with a flag", "expected comparison flagged", "flagged most", "seconds"):
        table.add_column(heading)
    for case in CASES:
        quiet = CASES[case][2] == ""
        repetitions = arguments.repetitions if quiet else max(1, arguments.repetitions // 10)
        table.add_row(case, *study(case, pool, arguments.rows, repetitions, arguments.embed))
    Console(width=150).print(table)


def task_of(path: Path, overrides: list[str]) -> tuple[str, dict[str, Any]]:
    task = load_config(path, overrides).task
    return task.name, task.settings


def study(case: str, pool: Sequence[Example], num_rows: int, repetitions: int, model: str | None) -> list[str]:
    """The cells of one case."""
    began = time.monotonic()
    found = [flags(case, pool, num_rows, repetition, model) for repetition in range(repetitions)]
    expected = CASES[case][2]
    tested = [one[expected] for one in found if expected in one]
    often = Counter(name for one in found for name, flagged in one.items() if flagged).most_common(4)
    return [
        share(sum(any(one.values()) for one in found), repetitions),
        share(sum(tested), len(tested)) if tested else "not tested" if expected else "-",
        ", ".join(f"{name} {count}" for name, count in often),
        f"{time.monotonic() - began:.0f}",
    ]


def share(count: int, n: int) -> str:
    low, high = clopper_pearson(count, n)
    return f"{count} of {n} [{low:.1%}, {high:.1%}]"


if __name__ == "__main__":
    main()
