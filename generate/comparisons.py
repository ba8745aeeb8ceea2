"""What is compared between real and synthetic samples: their properties as statistics over pooled rows.

`plan` lists every comparison, those that can't be made with the reason; `generate/fidelity.py` tests them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from generate import two_sample
from generate.two_sample import Counts, Statistic, Tail, Vector
from synthloop import problems
from synthloop.numerals import only_number
from synthloop.problems import Problem
from synthloop.randomness import rng
from synthloop.similarity import words
from synthloop.storable import loads

MIN_ROWS = 20
"""Fewer rows on a side are not tested: the fewest at which the tests that are not exact were measured. Of 400 halves of
normal, log-normal and integer data, 20 to 100 rows a side, 1.8% to 7.8% had a variance rejected at 5%."""

RARE = 3
"""A type seen at most this often is rare: hapax, dis and tris legomena (chosen, not measured)."""

ROWS_PER_LABEL = 5
"""Answers are labels where each occurs this often on average: the expected count that tests of shares ask for (Cochran
1954, Biometrics 10:417)."""

MAX_FIELDS = 10
"""JSON fields compared, the most frequent first: pairs grow with the square, and with them the correction."""

_HUGE = 1e100

Value = float | dict[str, float] | None


class Sample(Problem, Protocol):
    """What a real `Example` and a synthetic `Candidate` have in common."""

    @property
    def completion(self) -> str: ...
    @property
    def answer(self) -> str | None: ...
    @property
    def slice(self) -> str | None: ...


class Comparison(NamedTuple):
    """One test to run. Without values of either side, the pair's expected and observed effect stand in their place."""

    name: str
    effect: str
    statistic: Statistic
    sizes: tuple[int, int]
    tail: Tail = "both"
    real: Value = None
    synthetic: Value = None


class Skipped(NamedTuple):
    """A comparison that was not made, and why."""

    name: str
    reason: str


T = TypeVar("T")
Sides = Sequence[Sequence[T]]  # real, then synthetic
Points = tuple[NDArray[Any], NDArray[Any]]
Columns = Sequence[NDArray[Any]]  # the same of numbers, (rows,) or (rows, width)
Plan = Iterator[Comparison | Skipped]


def plan(sides: Sides[Sample], points: Points | None, seed: int) -> Plan:
    """All comparisons there are to make, in a fixed order."""
    shared = frozenset().union(*map(problems.shared_system, sides))
    yield from _texts("input", [[words(problems.compared(one, shared)) for one in side] for side in sides], seed)
    yield from _texts("completion", [[words(one.completion) for one in side] for side in sides], seed)
    answers = [[one.answer for one in side if one.answer is not None] for side in sides]
    yield _shares("label shares", answers, limit=sum(map(len, answers)) // ROWS_PER_LABEL)
    yield _shares("slice shares", [[one.slice for one in side if one.slice is not None] for side in sides])
    numbers = [np.array([value for one in side if (value := _number(one)) is not None]) for side in answers]
    yield _numeric("answer: mean", "cohens_d", two_sample.cohens_d, np.mean, numbers)
    yield _variance("answer", numbers)
    yield from _fields([[_json_numbers(one) for one in side] for side in sides])
    yield _embedding(points)


def _too_few(sides: Sides[Any] | Columns) -> str | None:
    """Why these rows are not tested, None where they are."""
    if min(map(len, sides)) >= MIN_ROWS:
        return None
    return f"{len(sides[0])} real and {len(sides[1])} synthetic rows have it; {MIN_ROWS} a side are needed"


def _sizes(sides: Sides[Any] | Columns) -> tuple[int, int]:
    return len(sides[0]), len(sides[1])


def _texts(field: str, documents: Sides[list[str]], seed: int) -> Plan:
    """Lengths, vocabulary and n-grams of texts given as words."""
    lengths = [np.array([float(len(one)) for one in side]) for side in documents]
    yield _numeric(f"{field} words: location", "cliffs_delta", two_sample.cliffs_delta, np.mean, lengths)
    yield _variance(f"{field} words", lengths)
    yield from _vocabulary(f"{field} vocabulary", [[one for one in side if one] for side in documents])
    for n in (1, 2):
        yield _ngrams(f"{field} {n}-grams", documents, n, seed)


def _numeric(
    name: str,
    effect: str,
    build: Callable[[Vector], Statistic],
    shown: Callable[[Vector], Any],
    sides: Columns,
    values: Callable[[Vector], Vector] = np.asarray,
) -> Comparison | Skipped:
    """A column of numbers: `build` makes the statistic of `values` of each side, `shown` is what stands beside it."""
    reason = _too_few(sides)
    if reason is not None:
        return Skipped(name, reason)
    pooled = np.concatenate([values(side) for side in sides])
    if np.ptp(pooled) == 0:
        return Skipped(name, "nothing varies on either side")
    real, synthetic = (float(shown(side)) for side in sides)
    return Comparison(name, effect, build(pooled), _sizes(sides), real=real, synthetic=synthetic)


def _variance(name: str, sides: Columns) -> Comparison | Skipped:
    return _numeric(
        f"{name}: variance",
        "cohens_d_of_deviations",
        two_sample.cohens_d,
        lambda side: side.var(ddof=1),
        sides,
        values=lambda side: np.abs(side - np.median(side)),
    )


def _vocabulary(name: str, documents: Sides[list[str]]) -> Plan:
    variety, rare, unknown = f"{name}: types a word", f"{name}: rare covered", f"{name}: unknown to real"
    reason = _too_few(documents)
    if reason is not None:
        yield from (Skipped(one, reason) for one in (variety, rare, unknown))
        return
    sizes, counts = _sizes(documents), Counts.of([*documents[0], *documents[1]])
    observed = two_sample.labellings(*sizes, permutations=0, seed=0).astype(float)
    ratios = [float(one[0]) for one in two_sample.type_token_ratios(counts, observed)]
    difference = two_sample.type_token_difference(counts)
    yield Comparison(variety, "type_token_difference", difference, sizes, "both", *ratios)
    if min(Counter(itertools.chain(*documents[0])).values()) > RARE:
        yield Skipped(rare, f"every real word occurs more than {RARE} times")
    else:
        coverage = two_sample.rare_coverage(counts, RARE)
        yield Comparison(rare, "share_of_rare_types", coverage, sizes, "lower")
    yield Comparison(unknown, "share_of_words", two_sample.unknown_share(counts), sizes, "upper")


def _ngrams(name: str, documents: Sides[list[str]], n: int, seed: int) -> Comparison | Skipped:
    """As many texts of either side, since the divergence of two samples grows as they get smaller."""
    sides = [
        [list(zip(*(one[i:] for i in range(n)), strict=False)) for one in side if len(one) >= n] for side in documents
    ]
    reason = _too_few(sides)
    if reason is not None:
        return Skipped(name, reason)
    size = min(map(len, sides))
    drawn = [rng(seed, name, i).sample(side, size) for i, side in enumerate(sides)]
    divergence = two_sample.jensen_shannon(Counts.of([*drawn[0], *drawn[1]]))
    return Comparison(name, "jensen_shannon_bits", divergence, (size, size), "upper")


def _shares(name: str, sides: Sides[str], limit: int | None = None) -> Comparison | Skipped:
    """Shares of categories; with `limit`, only where there are at most so many."""
    reason, found = _too_few(sides), sorted({*sides[0], *sides[1]})
    if reason is None and len(found) == 1:
        reason = f"all rows have {found[0]!r}"
    if reason is None and limit is not None and len(found) > limit:
        reason = f"{len(found)} different ones are no labels; {limit} would be ({ROWS_PER_LABEL} rows each)"
    if reason is not None:
        return Skipped(name, reason)
    statistic = two_sample.cramers_v(Counts.of([[one] for one in (*sides[0], *sides[1])]))
    real, synthetic = ({one: side.count(one) / len(side) for one in found} for side in sides)
    return Comparison(name, "cramers_v", statistic, _sizes(sides), "upper", real, synthetic)


def _fields(sides: Sides[dict[str, float]]) -> Plan:
    """Means, variances and pairwise correlations of the numbers in JSON objects."""
    frequency = Counter(name for side in sides for row in side for name in row)
    fields = sorted(frequency, key=lambda one: (-frequency[one], one))
    if not fields:
        yield Skipped("fields", "no answer and no completion is a JSON object with numbers")
    for name in fields[MAX_FIELDS:]:
        yield Skipped(f"field {name}", f"only the {MAX_FIELDS} most frequent fields are compared")
    for name in fields[:MAX_FIELDS]:
        values = [np.array([row[name] for row in side if name in row]) for side in sides]
        yield _numeric(f"field {name}: mean", "cohens_d", two_sample.cohens_d, np.mean, values)
        yield _variance(f"field {name}", values)
    for x, y in itertools.combinations(fields[:MAX_FIELDS], 2):
        pairs = [np.array([(row[x], row[y]) for row in side if x in row and y in row]) for side in sides]
        yield _correlation(f"fields {x}, {y}: correlation", pairs)


def _correlation(name: str, pairs: Columns) -> Comparison | Skipped:
    reason = _too_few(pairs)
    if reason is None and min(np.ptp(side, axis=0).min() for side in pairs) == 0:
        reason = "one of them does not vary on a side"
    if reason is not None:
        return Skipped(name, reason)
    statistic = two_sample.correlation_difference(*pairs)
    real, synthetic = (float(np.corrcoef(side.T)[0, 1]) for side in pairs)
    return Comparison(name, "correlation_difference", statistic, _sizes(pairs), real=real, synthetic=synthetic)


def _embedding(points: Points | None) -> Comparison | Skipped:
    reason = "no embeddings were given" if points is None else _too_few(points)
    if points is None or reason is not None:
        return Skipped("embeddings", str(reason))
    pooled = np.concatenate(points).astype(float)
    if not np.ptp(pooled, axis=0).any():
        return Skipped("embeddings", "all are the same point")
    statistic = two_sample.energy_coefficient(pooled)
    return Comparison("embeddings", "energy_coefficient", statistic, _sizes(points), "upper")


def _number(text: str) -> float | None:
    """The number that `text` is from end to end; None where it is none, or too large for squares."""
    found = only_number(text)
    return None if found is None or abs(Fraction(found)) >= _HUGE else float(Fraction(found))


def _json_numbers(sample: Sample) -> dict[str, float]:
    """The numeric fields of the answer where it is a JSON object, else of the completion; nested ones as `a.b`."""
    for text in (sample.answer, sample.completion):
        if text is not None and text.lstrip().startswith("{"):
            try:
                return dict(_flatten(loads(text), ""))
            except ValueError:
                continue  # Text that only looks like JSON has no fields.
    return {}


def _flatten(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _HUGE:
        yield path, float(value)
