"""Mixing: which rows each policy takes, the same rows in the same order every time, and which settings are refused."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloop.config import Config, dump, parse
from synthloop.errors import UserError
from synthloop.mixing import Mix, MixOverride
from synthloop.records import Message, Row
from synthloop.store import write_rows
from train.mix import mix_rows, select
from train.mix_facts import describe, notices

PROMPT = (Message(role="user", content="Tom has 3 apples and buys 4 more. How many?"),)


def row(name: str, source: str = "real", round: int = 0, num_tokens: int = 10) -> Row:
    return Row.model_validate(
        {
            "id": name,
            "source": source,
            "messages": PROMPT,
            "completion": "7",
            "round": round,
            "depth": int(source != "real"),
            "num_tokens": num_tokens,
            "completion_tokens": num_tokens // 2,
        }
    )


def rows_of(sizes: list[int]) -> list[Row]:
    return [row(f"real-{index}", num_tokens=size) for index, size in enumerate(sizes)]


def candidates_of(sizes: list[tuple[int, int]]) -> list[Row]:
    return [row(f"syn-{index}", "synthetic", round, size) for index, (round, size) in enumerate(sizes)]


SIZES = st.integers(1, 200)
REAL = st.lists(SIZES, min_size=1, max_size=30).map(rows_of)
SYNTHETIC = st.lists(st.tuples(st.integers(1, 4), SIZES), max_size=60).map(candidates_of)
POLICY = st.builds(
    Mix,
    max_synthetic_ratio=st.floats(0, 3),
    unit=st.sampled_from(["tokens", "rows"]),
    num_rows=st.none() | st.integers(1, 120),
)


@given(REAL, SYNTHETIC, POLICY, st.integers(0, 9))
def test_every_mix_keeps_its_promises(real: list[Row], synthetic: list[Row], policy: Mix, seed: int) -> None:
    mixed = mix_rows(real, synthetic, policy, seed, 2)
    facts = describe(mixed, real, synthetic, policy, round=2)

    assert {one.id for one in real} <= {one.id for one in mixed}
    assert len({one.id for one in mixed}) == len(mixed)
    assert facts["achieved"]["synthetic_per_real"] <= policy.max_synthetic_ratio
    assert mixed == mix_rows(real[::-1], synthetic[::-1], policy, seed, 2)
    assert facts["synthetic_rows"] + facts["dropped"]["over_cap"] == len(synthetic)
    assert facts["real_tokens"] == sum(one.num_tokens for one in mixed if one.source == "real")
    assert sum(facts["depth_shares"].values()) == pytest.approx(1)
    if policy.num_rows is not None:
        assert len(mixed) == max(policy.num_rows, len(real) + facts["synthetic_rows"])


@given(SYNTHETIC, st.integers(0, 2000), st.integers(0, 9))
def test_a_larger_budget_drops_nothing_that_fits_row_by_row(synthetic: list[Row], budget: int, seed: int) -> None:
    """Counted in rows, what a small budget keeps a larger one keeps too."""
    small = {one.id for one in select(synthetic, budget % 20, "rows", seed)}
    large = {one.id for one in select(synthetic, budget % 20 + 5, "rows", seed)}
    assert small <= large


def test_rounds_share_the_cap_equally_and_leave_their_rest_to_the_others() -> None:
    real = rows_of([100])
    synthetic = candidates_of([(1, 10)] * 20 + [(2, 10)] * 20 + [(3, 10)] * 2)
    kept = select(synthetic, 100, "tokens", seed=0)
    assert Counter(one.round for one in kept) == {1: 4, 2: 4, 3: 2}
    mixed = mix_rows(real, synthetic, Mix(), 0, 3)
    facts = describe(mixed, real, synthetic, Mix(), round=3)
    assert facts["achieved"] == {"synthetic_per_real": 1.0}
    assert facts["real_fraction"] == 0.5
    assert facts["by_round"]["3"] == {"available": 2, "kept": 2, "tokens": 20}
    assert facts["dropped"] == {"over_cap": 32}


def test_a_huge_row_does_not_block_its_round() -> None:
    kept = select(candidates_of([(1, 10_000), (1, 10), (1, 10)]), 25, "tokens", seed=0)
    assert sorted(one.num_tokens for one in kept) == [10, 10]


def test_real_rows_repeat_up_to_num_rows() -> None:
    mixed = mix_rows(rows_of([5] * 4), [], Mix(num_rows=10), seed=0, round=1)
    copies = Counter(one.id.partition("#")[0] for one in mixed)
    assert sorted(copies.values()) == [2, 2, 3, 3]


GOLDEN = {
    "834dffbdb27a1e9bbed5d778881e9c4dc0993c2d858696e1d076b56a2c0dee82": Mix(),
    "6c999a7ad00e1efaa433b37f02697cfb9a22b9bbbb56626be424b8a5069c36cc": Mix(
        max_synthetic_ratio=0.5, unit="rows", num_rows=45
    ),
}
"""Hash of the written rows -> policy, as mixed before there were other policies than `capped`."""


@pytest.mark.parametrize("expected", GOLDEN)
def test_the_default_policy_writes_the_bytes_it_always_wrote(expected: str, tmp_path: Path) -> None:
    real = rows_of([5 + n % 7 for n in range(20)])
    synthetic = candidates_of([(1 + n % 3, 4 + n % 11) for n in range(60)])
    write_rows(tmp_path / "train.jsonl", mix_rows(real, synthetic, GOLDEN[expected], 7, 3))
    assert hashlib.sha256((tmp_path / "train.jsonl").read_bytes()).hexdigest() == expected


def mixed_with(policy: Mix, round: int = 2, **given: Any) -> tuple[list[Row], dict[str, Any]]:
    """Ten real rows and six candidates of each of two rounds, all of 10 tokens."""
    real, synthetic = rows_of([10] * 10), candidates_of([(1, 10)] * 6 + [(2, 10)] * 6)
    rows = mix_rows(real, synthetic, policy, 0, round, **given)
    return rows, describe(rows, real, synthetic, policy, round=round, override=given.get("override"))


def sources(rows: Sequence[Row]) -> dict[str, int]:
    return dict(Counter(one.source for one in rows))


def test_fixed_takes_the_ratio_exactly_or_says_how_far_it_came() -> None:
    rows, facts = mixed_with(Mix(policy="fixed", synthetic_ratio=0.7))
    assert sources(rows) == {"real": 10, "synthetic": 7}
    assert not notices(facts, Mix(policy="fixed", synthetic_ratio=0.7))
    policy = Mix(policy="fixed", synthetic_ratio=2)
    rows, facts = mixed_with(policy)
    assert sources(rows) == {"real": 10, "synthetic": 12}
    assert (facts["asked"]["synthetic_ratio"], facts["achieved"]["synthetic_per_real"]) == (2, 1.2)
    assert ["asked 2 per real in tokens, achieved 1.2 with all 12" in one for one in notices(facts, policy)] == [True]


@given(st.integers(1, 99), st.integers(1, 300))
def test_fixed_in_rows_is_not_off_by_a_rounding_of_floats(percent: int, num_real: int) -> None:
    policy = Mix(policy="fixed", synthetic_ratio=percent / 100, unit="rows")
    rows = mix_rows(rows_of([1] * num_real), candidates_of([(1, 1)] * num_real), policy, 0, 1)
    assert sources(rows).get("synthetic", 0) == percent * num_real // 100


@pytest.mark.parametrize(("round", "synthetic"), [(1, 2), (2, 5), (3, 10), (7, 10)])
def test_a_schedule_gives_each_round_its_ratio_and_then_its_last(round: int, synthetic: int) -> None:
    rows, facts = mixed_with(Mix(policy="schedule", schedule=[0.2, 0.5, 1]), round)
    assert sources(rows) == {"real": 10, "synthetic": synthetic}
    assert facts["bounds"]["synthetic_per_real"] == facts["achieved"]["synthetic_per_real"]


@given(REAL, SYNTHETIC)
def test_accumulate_keeps_everything(real: list[Row], synthetic: list[Row]) -> None:
    rows = mix_rows(real, synthetic, Mix(policy="accumulate"), 0, 4)
    assert {one.id for one in rows} == {one.id for one in [*real, *synthetic]}
    assert len(rows) == len(real) + len(synthetic)


@given(REAL, SYNTHETIC)
def test_replace_keeps_the_newest_round_alone_and_warns(real: list[Row], synthetic: list[Row]) -> None:
    policy = Mix(policy="replace")
    rows = mix_rows(real, synthetic, policy, 0, 4)
    last = max((one.round for one in synthetic), default=0)
    assert {one.id for one in rows} == {one.id for one in synthetic if one.round == last}
    facts = describe(rows, real, synthetic, policy, round=4)
    assert facts["dropped"]["real"] == len(real)
    assert facts["dropped"]["older_rounds"] == len(synthetic) - len(rows)
    assert facts["achieved"]["synthetic_per_real"] is None
    if rows:
        assert "mix.policy is replace" in notices(facts, policy)[0]


@given(REAL, SYNTHETIC, st.floats(0.01, 0.95), st.sampled_from(["tokens", "rows"]))
def test_real_rows_repeat_up_to_their_share_and_no_further(
    real: list[Row], synthetic: list[Row], share: float, unit: Any
) -> None:
    policy = Mix(policy="accumulate", min_real_fraction=share, unit=unit)
    rows = mix_rows(real, synthetic, policy, 3, 1)
    assert {one.id for one in real} <= {one.id for one in rows}
    key = "real_fraction" if unit == "tokens" else "real_fraction_rows"
    facts = describe(rows, real, synthetic, policy, round=1)
    assert facts[key] >= share - 1e-6
    if facts["repeated_rows"]:
        largest = max(one.num_tokens for one in real) if unit == "tokens" else 1
        size = sum(one.num_tokens for one in rows) if unit == "tokens" else len(rows)
        assert facts[key] * size - largest <= share * (size - largest) + 1e-6 * size


def test_a_replayed_row_is_neither_real_nor_synthetic() -> None:
    policy = Mix(replay="old.jsonl", replay_ratio=0.3, min_real_fraction=0.5)
    replay = [row(f"old-{n}", "replay") for n in range(50)]
    rows, facts = mixed_with(policy, replay=replay)
    assert sources(rows) == {"real": 13, "synthetic": 10, "replay": 3}
    assert facts["by_source"]["replay"] == {"rows": 3, "tokens": 30, "loss_share": pytest.approx(3 / 26)}
    assert facts["achieved"] == {"synthetic_per_real": 1.0, "replay_per_real": 0.3}
    assert rows == mixed_with(policy, replay=replay[::-1])[0]
    few = Mix(replay="old.jsonl", replay_ratio=9)
    told = notices(mixed_with(few, replay=replay)[1], few)
    assert ["too few rows in mix.replay: asked 9 per real in tokens, achieved 5" in one for one in told] == [True]


def test_the_share_of_the_loss_counts_weights_completions_and_copies() -> None:
    real = [row("real-0", num_tokens=20).model_copy(update={"completion_tokens": 5, "weight": 2.0})]
    synthetic = [row("syn-0", "synthetic", 1, 20).model_copy(update={"completion_tokens": 15, "weight": 0.5})]
    once = describe([*real, *synthetic], real, synthetic, Mix(), round=1)
    assert once["real_loss_share"] == pytest.approx(10 / 17.5)
    twice = describe([*real, *real, *synthetic], real, synthetic, Mix(), round=1)
    assert twice["real_loss_share"] == pytest.approx(20 / 27.5)
    assert once["real_fraction"] == 0.5


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Mix(), {"real": 10, "synthetic": 3}),
        (Mix(policy="fixed", synthetic_ratio=0.2), {"real": 10, "synthetic": 2}),
        (Mix(policy="accumulate"), {"real": 10, "synthetic": 3}),
        (Mix(policy="replace"), {"synthetic": 3}),
    ],
    ids=lambda value: getattr(value, "policy", ""),
)
def test_the_loop_can_tighten_the_bound_of_a_round_and_never_loosen_it(policy: Mix, expected: dict[str, int]) -> None:
    override = MixOverride(max_synthetic_ratio=0.3, reason="warned")
    rows, facts = mixed_with(policy, override=override)
    assert sources(rows) == expected
    assert facts["override"] == {"max_synthetic_ratio": 0.3, "min_real_fraction": None, "reason": "warned"}
    assert any("overridden for this round: max_synthetic_ratio=0.3 (warned)" in one for one in notices(facts, policy))


@pytest.mark.parametrize(("policy", "real"), [("accumulate", 36), ("replace", 18)])
def test_the_loop_can_raise_the_share_of_real_rows(policy: Any, real: int) -> None:
    """Under `replace` too: 18 of 24."""
    rows, _ = mixed_with(Mix(policy=policy), override=MixOverride(min_real_fraction=0.75, reason="stopped"))
    assert sources(rows)["real"] == real


def configured(**mix: Any) -> Config:
    recipes = {"recipes": [{"name": "repair"}]}
    return parse(
        Config,
        {"name": "x", "task": {"name": "t"}, "student": {"model": "m"}, "generate": recipes, "mix": mix},
        "x.yaml",
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": [1]}, "the policy 'capped' does not read schedule"),
        (
            {"policy": "fixed", "synthetic_ratio": 1, "max_synthetic_ratio": 1},
            "'fixed' does not read max_synthetic_ratio",
        ),
        ({"policy": "replace", "num_rows": 9, "weights": {"real": 2}}, "'replace' does not read num_rows, weights"),
        ({"policy": "fixed"}, "the policy 'fixed' needs synthetic_ratio"),
        ({"policy": "schedule"}, "the policy 'schedule' needs schedule"),
        ({"policy": "schedule", "schedule": []}, "'mix.schedule'"),
        ({"policy": "adaptative"}, "found 'adaptative'"),
        ({"ratios": [0, 1], "proxies": {"seeds": 3}}, "the policy 'capped' does not read ratios, proxies"),
        ({"policy": "adaptive", "proxies": {"seeds": 1}}, "'mix.proxies.seeds'"),
        ({"policy": "adaptive", "ratios": [1]}, "'mix.ratios'"),
        ({"max_synthetic_ratio": float("inf")}, "finite"),
        ({"replay": "old.jsonl"}, "replay and replay_ratio are set together"),
        ({"weights": {"synthetik": 1}}, "unknown source 'synthetik'"),
        ({"weights": {"replay": 1}}, "unknown source 'replay'"),
        ({"weights": {"recipe:repare": 1}}, "'repare' is not in generate.recipes. Did you mean 'repair'"),
        ({"weights": {"synthetic": -1}}, "'mix.weights.synthetic'"),
        ({"weights": {"real": 0}}, "Real rows are left out by policy: replace alone"),
    ],
)
def test_a_setting_that_nothing_would_read_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as caught:
        configured(**settings)
    assert "'mix" in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"policy": "fixed", "synthetic_ratio": 0.5, "max_synthetic_ratio": None},
        {"policy": "schedule", "schedule": [0.5, 2], "min_real_fraction": 0.3},
        {"policy": "accumulate", "weights": {"real": 2, "recipe:repair": 0.5}},
        {"policy": "replace", "unit": "rows"},
        {"replay": "old.jsonl", "replay_ratio": 0.1, "weights": {"replay": 0.5}},
    ],
)
def test_what_was_written_reads_back(settings: dict[str, Any]) -> None:
    config = configured(**settings)
    assert parse(Config, dump(config), "config.resolved.json") == config
