"""The signals of a round, from made-up observations."""

from __future__ import annotations

from typing import Any

import pytest

from eval import diversity
from eval.signals import SIGNALS, Likelihood, Observation, is_refusal, measure, trends
from synthloop.records import Completion

SLICES = {
    "common": {"value": 0.9, "n": 70},
    "medium": {"value": 0.4, "n": 20},
    "rare": {"value": 0.5, "n": 6},
    "rarest": {"value": 0.0, "n": 4},
}


def seen(*replies: str, **changes: Any) -> Observation:
    texts = replies or ("the cat sat", "a dog ran far")
    completions = [
        Completion(request_id=str(n), text=text, finish_reason="stop", prompt_tokens=3, completion_tokens=len(text))
        for n, text in enumerate(texts)
    ]
    real = diversity.reference(["the cat sat", "a dog slept"])
    given = Observation(
        likelihood=Likelihood(nats=30.0, tokens=20, rare_nats=12.0, rare_tokens=3),
        scores={"value": 0.7, "n": 100, "slices": SLICES},
        replies=completions,
        written=diversity.sample(texts, 6),
        real=real,
        pool=None,
        real_pool=real,
        mix=None,
    )
    return given._replace(**changes)


def test_fit() -> None:
    signals = measure(seen())
    assert (signals["nll"], signals["nll_rare"], signals["accuracy"]) == (1.5, 4.0, 0.7)
    assert signals["worst_slice_accuracy"] == 0.4, "slices under ten examples can not be the worst"
    assert signals["rare_slice_accuracy"] == pytest.approx((6 * 0.5 + 4 * 0.0) / 10), "the rarest tenth, together"


def test_what_is_not_there_is_none() -> None:
    signals = measure(seen(likelihood=None, scores={"value": 0.7, "n": 100, "slices": {}}))
    missing = {name for name, value in signals.items() if value is None}
    assert {"nll", "nll_rare", "worst_slice_accuracy", "rare_slice_accuracy"} <= missing
    assert {"real_fraction", "real_loss_share", "max_depth", "data_entropy", "data_mean_length"} <= missing
    assert measure(seen(likelihood=Likelihood(30.0, 20, 0.0, 0)))["nll_rare"] is None


def test_pass_at_k_beside_pass_at_1() -> None:
    signals = measure(seen(passes=[(4, 4), (1, 4), (0, 4), (2, 4)]))
    assert signals["pass_at_1"] == pytest.approx(7 / 16)
    assert signals["pass_at_k"] == 0.75
    assert signals["pass_gap"] == pytest.approx(0.75 - 7 / 16)
    assert measure(seen())["pass_at_k"] is None, "one sample to a prompt: nothing to compare"


def test_kept_rows_are_measured_like_replies_and_the_mix_is_passed_through() -> None:
    mix = {"real_fraction": 0.25, "real_loss_share": 0.5, "max_depth": 2, "depth_shares": {"0": 0.25, "2": 0.75}}
    both = seen(pool=diversity.sample(["the cat sat", "a dog ran far"], 6), mix=mix)
    signals = measure(both)
    for name in diversity.MEASURES:
        assert signals[f"data_{name}"] == signals[name]
    assert signals["data_mean_length"] == 3.5
    assert (signals["real_fraction"], signals["real_loss_share"], signals["max_depth"]) == (0.25, 0.5, 2.0)
    assert (signals["depth_share_0"], signals["depth_share_2"]) == (0.25, 0.75)


@pytest.mark.parametrize("text", ["", " \n", "I'm sorry, but", "I cannot help", "As an AI model", '"Sorry, no."'])
def test_refusals(text: str) -> None:
    assert is_refusal(text)
    assert measure(seen(text, "42"))["refusal_share"] == 0.5


@pytest.mark.parametrize("text", ["42", "I can do this: 6*7", "The sorry state of it", "Ian cannot swim"])
def test_answers_are_no_refusals(text: str) -> None:
    assert not is_refusal(text)


def test_every_tested_signal_is_measured_and_causes_and_lengths_are_not_tested() -> None:
    tested, measured = set(trends(64)), set(measure(seen()))
    assert tested < measured
    causes = {"real_fraction", "real_loss_share", "max_depth"}
    lengths = {"mean_length", "truncated_share", "data_mean_length"}
    assert causes | lengths | {"pass_at_1", "pass_gap"} == set(SIGNALS) - tested
    assert {one.channel for one in trends(64).values()} == {"fit", "diversity"}
