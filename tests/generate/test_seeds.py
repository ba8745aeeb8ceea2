"""Which examples a round starts from: shares, caps, proportions, refusals."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generate.seeds import allocate, make_seeds, named_recipes, spread
from synthloop.config import Generate, RecipeRef
from synthloop.errors import UserError
from synthloop.records import Example, Failure, Seed
from tests.generate import rows

TRAIN = [rows.example(number, id=f"train-{number}", slice=f"slice-{number % 3}") for number in range(40)]


def failures(number: int, split: str = "probe", slices: int = 3) -> list[Failure]:
    examples = [rows.example(n, id=f"probe-{n}", slice=f"slice-{n % slices}") for n in range(number)]
    return [
        Failure(id=one.id, split=split, example=one, response="#### 0", parsed="0", truncated=False) for one in examples
    ]


def config(**changes: Any) -> Generate:
    recipes = (RecipeRef(name="repair", share=2), RecipeRef(name="variation"), RecipeRef(name="explore"))
    return Generate(**{"recipes": recipes, "num_seeds": 40, **changes})


def is_failure(seed: Seed) -> bool:
    return seed.response is not None


@given(st.integers(0, 2000), st.lists(st.floats(0.01, 10), min_size=1, max_size=12))
def test_allocation_sums_and_is_within_one_of_the_share(total: int, shares: list[float]) -> None:
    numbers = allocate(total, shares)
    assert sum(numbers) == total
    assert all(abs(n - total * share / sum(shares)) < 1 + 1e-6 for n, share in zip(numbers, shares, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    num_seeds=st.integers(1, 120),
    num_failures=st.integers(0, 30),
    cap=st.integers(1, 5),
    share=st.floats(0, 1),
    demonstrations=st.integers(0, 4),
)
def test_caps_and_totals_hold(num_seeds: int, num_failures: int, cap: int, share: float, demonstrations: int) -> None:
    cfg = config(num_seeds=num_seeds, max_per_failure=cap, non_failure_share=share, num_demonstrations=demonstrations)
    seeds, counts = make_seeds(cfg, TRAIN, failures(num_failures), 0, 1)
    assert len(seeds) == num_seeds == len({seed.id for seed in seeds})
    used = Counter(seed.example.id for seed in seeds if is_failure(seed))
    assert all(number <= cap for number in used.values())
    assert not used or max(used.values()) - min(used.values()) <= 1
    assert sum(used.values()) == counts["failure_seeds"]
    assert len(used) == min(num_failures, counts["failure_seeds"])
    for seed in seeds:
        ids = [one.id for one in seed.demonstrations]
        assert len(set(ids)) == len(ids) == demonstrations
        assert seed.example.id not in ids
        assert all(one.startswith("train-") for one in ids)


def test_recipes_get_the_kind_of_seed_they_ask_for() -> None:
    seeds, counts = make_seeds(config(non_failure_share=0.3), TRAIN, failures(30), 0, 1)
    by_recipe = {
        name: [is_failure(one) for one in seeds if one.recipe == name] for name in ("repair", "variation", "explore")
    }
    assert by_recipe == {"repair": [True] * 20, "variation": [True] * 7 + [False] * 3, "explore": [False] * 10}
    assert counts == {"seeds": 40, "failure_seeds": 27, "failure_seeds_missing": 0, "failures": 30}


def test_slices_with_more_failures_get_more_seeds() -> None:
    many = [
        one.model_copy(update={"example": one.example.model_copy(update={"slice": "hard"})}) for one in failures(24)
    ]
    few = [one.model_copy(update={"id": f"x{one.id}"}) for one in failures(8, slices=1)]
    seeds, _ = make_seeds(config(num_seeds=32, recipes=(RecipeRef(name="repair"),)), TRAIN, [*many, *few], 0, 1)
    assert Counter(seed.example.slice for seed in seeds) == {"hard": 24, "slice-0": 8}
    fewer, _ = make_seeds(config(num_seeds=16, recipes=(RecipeRef(name="repair"),)), TRAIN, [*many, *few], 0, 1)
    assert Counter(seed.example.slice for seed in fewer) == {"hard": 12, "slice-0": 4}


def test_without_failures_everything_starts_from_train(caplog: pytest.LogCaptureFixture) -> None:
    seeds, counts = make_seeds(config(), TRAIN, [], 0, 1)
    assert len(seeds) == 40
    assert not any(map(is_failure, seeds))
    assert counts["failure_seeds_missing"] == 28
    assert "made up from train" in caplog.text


def test_random_seeds_use_no_failure_and_say_nothing_is_missing() -> None:
    seeds, counts = make_seeds(config(seeds="random"), TRAIN, failures(30), 0, 1)
    assert not any(map(is_failure, seeds))
    assert {seed.example.id for seed in seeds} == {one.id for one in TRAIN}
    assert counts["failure_seeds_missing"] == 0


@pytest.mark.parametrize("split", ["gate", "test", "train"])
def test_a_failure_that_is_held_out_is_refused(split: str) -> None:
    with pytest.raises(UserError, match=f"from split '{split}', expected 'probe'"):
        make_seeds(config(), TRAIN, failures(3, split), 0, 1)


def test_low_data_mode_takes_train_failures_and_keeps_them_out_of_the_non_failures() -> None:
    failed = [
        Failure(id=one.id, split="train", example=one, response="?", parsed=None, truncated=False) for one in TRAIN[:10]
    ]
    seeds, _ = make_seeds(config(failures_from="train"), TRAIN, failed, 0, 1)
    assert {one.example.id for one in seeds if not is_failure(one)} <= {one.id for one in TRAIN[10:]}
    with pytest.raises(UserError, match="from split 'probe'"):
        make_seeds(config(failures_from="train"), TRAIN, failures(1), 0, 1)


def test_demonstrations_prefer_the_slice() -> None:
    seeds, _ = make_seeds(config(num_demonstrations=3), TRAIN, failures(30), 0, 1)
    assert all(one.slice == seed.example.slice for seed in seeds for one in seed.demonstrations)


def test_rounds_and_run_seeds_differ_and_the_same_ones_repeat() -> None:
    def ids(run_seed: int, round: int) -> list[str]:
        return [seed.example.id for seed in make_seeds(config(), TRAIN, failures(30), run_seed, round)[0]]

    assert ids(0, 1) == ids(0, 1)
    assert ids(0, 1) != ids(0, 2) != ids(1, 2)


def test_spread_does_not_depend_on_the_given_order() -> None:
    def order(examples: list[Example]) -> list[str]:
        return [one.id for one in spread(examples, [one.slice for one in examples], 3)]

    assert order(TRAIN) == order(TRAIN[::-1])


def test_a_recipe_named_twice_has_two_sets_of_seeds() -> None:
    twice = (RecipeRef(name="variation"), RecipeRef(name="variation", share=3))
    assert list(named_recipes(twice)) == ["variation", "variation-2"]
    seeds, _ = make_seeds(config(recipes=twice), TRAIN, failures(5), 0, 1)
    assert Counter(seed.recipe for seed in seeds) == {"variation": 10, "variation-2": 30}
