"""Seeds: which real examples a round starts from.

`num_seeds` are shared out over the recipes by their shares (largest remainder). A recipe module says with `SEEDS` what
it starts from:

    'failures'       examples the student got wrong (repair)
    'non_failures'   real train examples (explore)
    'any'            both: `non_failure_share` of its seeds are non-failures (variation; the default)
    'train'          real train examples, failed or not: all that may be trained on as they are (rejection, star)

Failures come from `failures.jsonl` of the accepted round, all of split `failures_from`; anything else is refused, as
nothing may be chosen by gate or test. They are dealt in turn, slices interleaved in proportion to their failures, none
more than `max_per_failure` times a round. What is missing, because there are too few failures, is made up from
non-failures and told in the stage's record. Non-failures are drawn from train, where nothing is held out, and also
dealt in turn. Under `seeds: random` every recipe starts from train: the control that asks whether failures matter.

Demonstrations are of the seed's slice first; where answers are labels, they are spread over the labels
(`generate/demonstrations.py`).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, cycle, islice
from typing import NamedTuple, Protocol, TypeVar

from generate.demonstrations import by_label, draw_across
from synthloop import plugins
from synthloop.config import Generate, RecipeRef
from synthloop.errors import UserError
from synthloop.randomness import derive_seed, rng
from synthloop.records import Example, Failure, Seed

log = logging.getLogger("synthloop.generate")


class Row(Protocol):
    """What `spread` orders."""

    @property
    def id(self) -> str: ...


R = TypeVar("R", bound=Row)


class Source(NamedTuple):
    """A real example to start from, with the student's wrong answer where it failed it."""

    example: Example
    response: str | None = None

    @property
    def id(self) -> str:
        return self.example.id

    @property
    def slice(self) -> str | None:
        return self.example.slice


def named_recipes(recipes: Sequence[RecipeRef]) -> dict[str, RecipeRef]:
    """The recipes by the name their seeds carry: their own, with `-2`, `-3` for the same recipe set up differently."""
    named: dict[str, RecipeRef] = {}
    for recipe in recipes:
        earlier = sum(one.name == recipe.name for one in named.values())
        named[recipe.name if earlier == 0 else f"{recipe.name}-{earlier + 1}"] = recipe
    return named


def make_seeds(
    cfg: Generate,
    train: Sequence[Example],
    failures: Sequence[Failure],
    run_seed: int,
    round: int,
    labels: Sequence[str] = (),
) -> tuple[list[Seed], dict[str, int]]:
    """The round's seeds, recipe by recipe, and counts for the record.

    Args:
        labels: those of the task, where its answers are labels.

    Raises:
        UserError: a failure is not from the split `failures_from` names.
    """
    refuse_held_out(failures, cfg.failures_from)
    named = named_recipes(cfg.recipes)
    numbers = allocate(cfg.num_seeds, [recipe.share for recipe in named.values()]) if named else []
    asked = [number_of_failures(cfg, recipe, number) for recipe, number in zip(named.values(), numbers, strict=True)]
    given = limit(asked, len(failures) * cfg.max_per_failure if cfg.seeds == "failures" else 0)

    failed = {failure.id for failure in failures}
    solved = [Source(one) for one in train if one.id not in failed] or [Source(one) for one in train]
    wrong = [Source(failure.example, failure.response) for failure in failures]
    from_failures = _deal(wrong, sum(given), run_seed, round, "failures")
    from_solved = _deal(solved, sum(numbers) - sum(given), run_seed, round, "train")
    from_train = _deal([Source(one) for one in train], sum(numbers), run_seed, round, "all of train")

    demonstrations = _Demonstrations(train, cfg.num_demonstrations, run_seed, round, labelled=bool(labels))
    seeds = [
        _seed(f"{name}-{index:05d}", name, source, demonstrations)
        for name, number, num_failures in zip(named, numbers, given, strict=True)
        for rest in [from_train if wants(named[name]) == "train" else from_solved]
        for index, source in enumerate(chain(islice(from_failures, num_failures), islice(rest, number - num_failures)))
    ]
    missing = sum(asked) - sum(given) if cfg.seeds == "failures" else 0
    if missing:
        log.warning(
            "%d of %d failure seeds are made up from train: the student left %d failures, each used at most %d times",
            missing, sum(asked), len(failures), cfg.max_per_failure,
        )  # fmt: skip
    counts = {"seeds": len(seeds), "failure_seeds": sum(given), "failure_seeds_missing": missing}
    return seeds, {**counts, "failures": len(failures)}


def refuse_held_out(failures: Sequence[Failure], allowed: str) -> None:
    """Raises `UserError` for a failure of another split than `allowed`: seeds must not come from gate or test."""
    for failure in failures:
        if failure.split != allowed:
            raise UserError(
                f"failures.jsonl: the failure {failure.id} is from split '{failure.split}', expected '{allowed}' "
                "(generate.failures_from). What is held out for decisions must not seed training data; run the "
                "evaluation of the accepted round again."
            )


def allocate(total: int, shares: Sequence[float]) -> list[int]:
    """`total` in whole numbers proportional to `shares`, by the largest remainder; equal remainders in order."""
    exact = [Fraction(share) / sum(map(Fraction, shares)) * total for share in shares]
    numbers = [int(one) for one in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (numbers[i] - exact[i], i))
    for index in by_remainder[: total - sum(numbers)]:
        numbers[index] += 1
    return numbers


def limit(asked: Sequence[int], available: int) -> list[int]:
    """`asked`, cut down in proportion where more is asked than there is."""
    return list(asked) if sum(asked) <= available else allocate(available, asked)


def number_of_failures(cfg: Generate, recipe: RecipeRef, number: int) -> int:
    """How many of a recipe's `number` seeds are to be failures."""
    share = {"failures": 0.0, "any": cfg.non_failure_share}.get(wants(recipe), 1.0)
    return number - round(share * number)


def wants(recipe: RecipeRef) -> str:
    """What the recipe's module starts from: its `SEEDS`."""
    return str(getattr(plugins.load("recipe", recipe.name), "SEEDS", "any"))


def spread(rows: Sequence[R], slices: Sequence[str | None], *parts: int | str) -> list[R]:
    """`rows` in an order, drawn by `parts`, of which every beginning has the slices in about their proportions."""
    groups: dict[str | None, list[R]] = defaultdict(list)
    for row, name in sorted(zip(rows, slices, strict=True), key=lambda pair: derive_seed(pair[0].id, *parts)):
        groups[name].append(row)
    placed = [
        ((position + 0.5) / len(group), derive_seed(row.id, *parts), row)
        for group in groups.values()
        for position, row in enumerate(group)
    ]
    return [row for _, _, row in sorted(placed, key=lambda item: item[:2])]


def _deal(sources: Sequence[Source], number: int, run_seed: int, round: int, what: str) -> Iterator[Source]:
    """`number` of `sources` in turn, so that none is used twice before all were used once."""
    ordered = spread(sources, [source.slice for source in sources], run_seed, round, what)
    return islice(cycle(ordered), number)


class _Demonstrations:
    """Other real train examples for a seed: across the labels where it is `labelled`, else of its slice first."""

    def __init__(self, train: Sequence[Example], number: int, run_seed: int, round: int, *, labelled: bool) -> None:
        self._train = train
        self._number = number
        self._parts = (run_seed, round, "demonstrations")
        self._by_label = by_label(train) if labelled else None
        self._by_slice: dict[str | None, list[Example]] = defaultdict(list)
        for one in train:
            self._by_slice[one.slice].append(one)

    def draw(self, seed_id: str, example: Example) -> tuple[Example, ...]:
        draw = rng(*self._parts, seed_id)
        if self._by_label is not None:
            return draw_across(self._by_label, self._number, draw, example.id)
        same = self._by_slice.get(example.slice, [])
        # One more than needed, in case the example itself is drawn.
        chosen = draw.sample(same, min(self._number + 1, len(same)))
        if len(chosen) <= self._number:
            chosen += draw.sample(self._train, min(2 * self._number + 1, len(self._train)))
        distinct = {one.id: one for one in chosen if one.id != example.id}
        return tuple(islice(distinct.values(), self._number))


def _seed(id: str, recipe: str, source: Source, demonstrations: _Demonstrations) -> Seed:
    return Seed(
        id=id,
        recipe=recipe,
        example=source.example,
        response=source.response,
        demonstrations=demonstrations.draw(id, source.example),
    )
