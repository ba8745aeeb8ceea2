"""Weights by density ratio: mean 1, larger for what is like the real data, flat where nothing tells them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import vstack

from generate.curate import curate
from generate.curation import FilterContext
from generate.filters import reweight
from generate.importance import effective_size, features, odds, weights
from synthloop.config import PluginRef
from synthloop.records import Candidate
from synthloop.store import write_rows
from tests.generate import rows
from tests.generate.runs import build_run

ALIKE = "Tom has {n} apples and buys 4 more. How many apples does he have now?"
UNLIKE = "A train leaves the station at {n} o'clock; when will it arrive at the harbour?"


@pytest.fixture
def ctx(tmp_path: Path) -> FilterContext:
    run = build_run(tmp_path / "run")
    write_rows(run.split("train"), [rows.example(n) for n in range(60)])
    return FilterContext(run, 1)


def batch(count: int, **changes: Any) -> list[Candidate]:
    """Half like the real rows, half not, in turns."""
    return [
        rows.candidate(n, input=(UNLIKE if n % 2 else ALIKE).format(n=n), completion=f"#### {n}", **changes)
        for n in range(count)
    ]


def test_what_is_like_the_real_data_weighs_more(ctx: FilterContext) -> None:
    kept, rejected = curate(batch(60), [PluginRef(name="reweight")], ctx)
    assert rejected == []
    found = np.array([one.weight for one in kept])
    assert found.mean() == pytest.approx(1)
    assert found[::2].min() > 1 > found[1::2].max()
    assert found.max() / found.min() <= 16 + 1e-9
    assert [one.scores["reweight"] for one in kept] == list(found)
    assert kept[0].lineage["replaced"]["reweight"] == {"weight": 1.0}


def test_a_recipes_own_weight_is_kept_as_a_factor(ctx: FilterContext) -> None:
    plain = reweight.check(reweight.Config(), batch(60), ctx)
    double = reweight.check(reweight.Config(), batch(60, weight=2.0), ctx)
    assert [2 * one.changes["weight"] for one in plain] == [one.changes["weight"] for one in double]


def test_the_clip_bounds_the_weights(ctx: FilterContext) -> None:
    found = [one.score for one in reweight.check(reweight.Config(max_ratio=1.5), batch(60), ctx) if one.score]
    assert max(found) / min(found) <= 1.5**2 + 1e-9
    assert max(found) > min(found)


def test_too_few_rows_keep_their_weight(ctx: FilterContext, caplog: pytest.LogCaptureFixture) -> None:
    decisions = reweight.check(reweight.Config(), batch(19), ctx)
    assert all(one.keep and not one.changes for one in decisions)
    assert "too few samples to weigh (60 real, 19 new)" in caplog.text


def test_texts_of_one_distribution_weigh_nearly_the_same() -> None:
    """Out of fold: in-sample, with more buckets than texts, the two would be told apart by heart."""
    draw = np.random.default_rng(0)
    words = [f"w{n}" for n in range(300)]
    texts = [" ".join(draw.choice(words, 20)) for _ in range(600)]
    rows = features(texts, 4096)
    found = weights(odds(rows[:300], rows[300:], [n % 5 for n in range(300)]), 4.0)
    assert effective_size(found) > 0.9 * 300
    # The same with a copy of each text in another fold: seen in training, it looks far less real.
    copied = odds(rows[:300], vstack([rows[300:], rows[300:]], format="csr"), [0] * 300 + [1] * 300)[:300]
    unseen = odds(rows[:300], rows[300:], [n % 5 for n in range(300)])
    assert np.median(copied) < 0.8 < np.median(unseen) < 1.25


def test_features_are_the_distinct_words_and_pairs_of_a_text() -> None:
    some = features(["a b a b", "a b a b", "c", "", "日本 x"], 1 << 20)
    counts = np.diff(some.indptr)
    assert list(counts[:3]) == [2 + 2, 4, 1]  # a single word is its own bigram
    assert (some[[0]] != some[[1]]).nnz == 0
    assert np.allclose((some * some).sum(axis=1), 1)
    assert features([], 16).shape == (0, 16)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=50), st.floats(1.1, 10))
def test_weights_have_mean_1_and_keep_the_order(ratios: list[float], max_ratio: float) -> None:
    found = weights(np.array(ratios), max_ratio)
    assert found.mean() == pytest.approx(1)
    assert found.max() / found.min() <= max_ratio**2 * (1 + 1e-9)
    order = np.argsort(ratios, kind="stable")
    assert (np.diff(found[order]) >= -1e-9).all()
