"""Quotas per group: the smallest decides, or the scarcest for its target share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from generate.curation import FilterContext
from generate.filters import balance
from synthloop.records import Candidate
from tests.generate import rows
from tests.generate.runs import build_run


@pytest.fixture
def ctx(tmp_path: Path) -> FilterContext:
    return FilterContext(build_run(tmp_path / "run"), 1)


def batch(**sizes: int) -> list[Candidate]:
    names = [name for name, size in sizes.items() for _ in range(size)]
    return [rows.candidate(n, slice=name) for n, name in enumerate(names)]


def kept(cfg: balance.Config, ctx: FilterContext, some: list[Candidate]) -> set[str]:
    return {one.id for one, decision in zip(some, balance.check(cfg, some, ctx), strict=True) if decision.keep}


def test_no_group_keeps_more_than_its_quota(ctx: FilterContext, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "synthloop")
    some = batch(a=40, b=10, c=15)
    decisions = balance.check(balance.Config(max_ratio=2), some, ctx)
    after = Counter(str(one.slice) for one, decision in zip(some, decisions, strict=True) if decision.keep)
    assert after == {"a": 20, "b": 10, "c": 15}
    assert {one.reason for one in decisions if not one.keep} == {"over quota: slice 'a' keeps 20 of 40"}
    assert "balance by slice: a 40 -> 20, b 10 -> 10, c 15 -> 15" in caplog.text


def test_the_choice_is_seeded_and_does_not_depend_on_the_order(ctx: FilterContext, tmp_path: Path) -> None:
    some, cfg = batch(a=40, b=10), balance.Config(max_ratio=1)
    chosen = kept(cfg, ctx, some)
    assert chosen == kept(cfg, ctx, some[::-1])
    assert chosen != {one.id for one in (*some[:10], *some[40:])}
    other = FilterContext(build_run(tmp_path / "other", seed=7), 1)
    assert chosen != kept(cfg, other, some)
    # Another candidate changes at most one choice.
    assert len(chosen - kept(cfg, ctx, [*some, rows.candidate(99, slice="a")])) <= 1


def test_a_group_of_one_does_not_empty_the_others(ctx: FilterContext) -> None:
    assert len(kept(balance.Config(max_ratio=1, min_keep=5), ctx, batch(a=40, b=1))) == 6
    assert len(kept(balance.Config(max_ratio=1, min_keep=0), ctx, batch(a=40, b=1))) == 2


def test_target_shares_are_reached_exactly_at_a_ratio_of_1(
    ctx: FilterContext, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = balance.Config(max_ratio=1, min_keep=0, shares={"a": 0.6, "b": 0.3, "c": 0.1, "nobody": 1})
    some = batch(a=50, b=12, c=30, other=3)
    decisions = balance.check(cfg, some, ctx)
    after = Counter(str(one.slice) for one, decision in zip(some, decisions, strict=True) if decision.keep)
    # b has 40 for a share of 1, the fewest.
    assert after == {"a": 24, "b": 12, "c": 4}
    assert decisions[-1].reason == "over quota: slice 'other' keeps 0 of 3"
    assert "no candidate in nobody, which `shares` names" in caplog.text


def test_by_answer_and_by_recipe(ctx: FilterContext) -> None:
    some = [rows.candidate(n, answer="x" if n < 12 else "y", recipe="p" if n < 6 else "q") for n in range(18)]
    assert len(kept(balance.Config(by="answer", max_ratio=1), ctx, some)) == 12
    assert len(kept(balance.Config(by="recipe", max_ratio=1), ctx, some)) == 12


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 60), min_size=1), st.floats(1, 4), st.integers(0, 9))
def test_quotas_hold_for_all_sizes(sizes: dict[str, int], max_ratio: float, min_keep: int) -> None:
    cfg = balance.Config(max_ratio=max_ratio, min_keep=min_keep)
    quotas = balance.quotas(cfg, Counter(sizes))
    assert all(quota <= max(max_ratio * min(sizes.values()) + 1e-6, min_keep) for quota in quotas.values())
    smallest = min(sizes, key=lambda name: sizes[name])
    assert quotas[smallest] >= sizes[smallest]


def test_shares_that_mean_nothing_are_refused() -> None:
    for shares in ({}, {"a": 0.0}, {"a": -1.0}):
        with pytest.raises(ValidationError, match="expected a positive share"):
            balance.Config(shares=shares)
