"""The verifier report on verifiers whose rates are known, and what follows for recipes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generate.curation import FilterContext
from generate.verifiers import draw_sample, keep_rates, recipe_error, recipe_errors, report, residual_error
from synthloop.config import PluginRef
from synthloop.records import Candidate, Failure, Rejection, Request
from synthloop.store import write_rows
from tests.generate import rows
from tests.generate.filters import ruled

JUDGE, VERIFY, NOVELTY = (PluginRef(name=name) for name in ("judge", "verify", "novelty"))


def answer_of(problem: str) -> str:
    """The right answer to the real rows of the tests: 'Tom has N apples and buys 4 more.'"""
    return str(int(problem.partition("Tom has ")[2].partition(" ")[0]) + 4)


def solve(model: str, request: Request) -> str:
    """As judge, right but for problems below 5; as teacher, always right."""
    text = request.messages[-1]["content"]
    if "<answer>" not in text:
        return f"#### {answer_of(text)}"
    said = text.partition("<answer>\n")[2].partition("\n</answer>")[0].rpartition("#### ")[2]
    right = said == answer_of(text) or int(answer_of(text)) < 9
    grade = 5 if right else 1
    return json.dumps({"reason": "", "correctness": grade, "problem": grade, "form": grade})


@pytest.fixture
def ctx(tmp_path: Path) -> FilterContext:
    return ruled.context(tmp_path, reply=solve)


def test_the_sample_is_right_and_wrong_by_the_scorer(ctx: FilterContext) -> None:
    sample = draw_sample(ctx.run, 1, 10)
    right, wrong = ([one for one in sample if one.right is mark] for mark in (True, False))
    assert (len(right), len(wrong)) == (10, 10)
    assert {one.source for one in right} == {"gold"}
    assert all(one.example.id.startswith("real-train") for one in right)
    # Six failures of probe, the rest swapped among train rows.
    assert [one.source for one in wrong].count("student") == 6
    assert [one.source for one in wrong].count("swapped") == 4
    for one in sample:
        assert ctx.task.score(one.example, one.completion).correct == one.right
    assert draw_sample(ctx.run, 1, 10) == sample
    assert draw_sample(ctx.run, 2, 10) != sample


def test_truncated_and_rightly_answered_failures_are_no_wrong_answers(ctx: FilterContext) -> None:
    example = rows.example(3)
    base: dict[str, Any] = {"id": "x", "split": "probe", "example": example, "parsed": None, "truncated": False}
    failures = [
        Failure(**{**base, "response": "#### 7"}),
        Failure(**{**base, "response": "#### 8", "truncated": True}),
        Failure(**{**base, "response": " "}),
    ]
    write_rows(ctx.run.round_dir(0) / "failures.jsonl", failures)
    assert all(one.source != "student" for one in draw_sample(ctx.run, 1, 10))


def test_rates_of_a_judge_whose_mistakes_are_known(ctx: FilterContext, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "synthloop.curate"):
        found = report(ctx.run, 1, [NOVELTY, JUDGE], 30)
    (measured,) = found["filters"]
    # All 30 train rows are right; of the wrong ones, those on problems below 5 are kept.
    sample = draw_sample(ctx.run, 1, 30)
    fooled = sum(not one.right and int(answer_of(one.example.input)) < 9 for one in sample)
    assert 0 < fooled < 30
    assert measured["name"] == "judge"
    assert measured["keep_right"]["rate"] == 1.0
    assert measured["keep_right"]["n"] == measured["keep_wrong"]["n"] == 30
    assert measured["keep_wrong"]["rate"] == fooled / 30
    assert measured["reasons"] == {"low": 30 - fooled}
    assert found["combined"]["keep_wrong"] == measured["keep_wrong"]
    assert found["sample"] == {"gold": 30, "student": 6, "swapped": 24}
    assert "verifier judge: keep_right 1.00 [0.89, 1.00] (n=30)" in caplog.text


def test_verify_is_measured_with_votes_and_no_gold(ctx: FilterContext) -> None:
    found = report(ctx.run, 1, [VERIFY, JUDGE], 10)
    verify, _ = found["filters"]
    assert verify["keep_right"]["rate"] == 1.0
    assert verify["keep_wrong"]["rate"] == 0.0
    assert set(verify["reasons"]) == {"too few votes"}
    assert found["combined"]["keep_wrong"]["rate"] == 0.0
    assert sum(request.role == "teacher" for _, request in ruled.Rules.asked) == 20 * 4


def test_probabilities_are_calibrated_and_pairs_compared(tmp_path: Path) -> None:
    ctx = ruled.context(tmp_path, reply=lambda model, request: '{"reason": "", "better": "A"}')
    filters = [PluginRef(name="self_eval"), PluginRef.model_validate({"name": "judge", "against": "rejected"})]
    self_eval, judge = report(ctx.run, 1, filters, 5)["filters"]
    assert self_eval["calibration"]["n"] == 10
    assert self_eval["calibration"]["base_rate"] == 0.5
    assert judge["reasons"] == {"order": 10}


def test_nothing_to_measure(ctx: FilterContext) -> None:
    assert report(ctx.run, 1, [NOVELTY], 10)["filters"] == []
    assert recipe_errors([rows.candidate()], [], [NOVELTY], report(ctx.run, 1, [NOVELTY], 10)) == []


def test_engines_of_another_context_are_used_and_left_open(ctx: FilterContext) -> None:
    with ctx:
        first = report(ctx.run, 1, [JUDGE], 5, shared=ctx)
        assert ctx.engines.is_ready(next(iter(ctx.engines._open)))
    assert report(ctx.run, 1, [JUDGE], 5) == first


def test_the_interval_is_wilsons(ctx: FilterContext) -> None:
    sample = draw_sample(ctx.run, 1, 10)
    rate = keep_rates(sample, [one.right and n < 8 for n, one in enumerate(sample)])["keep_right"]
    # Wilson's interval of 8 of 10 (Brown, Cai and DasGupta 2001 print formula and value).
    assert (rate["rate"], rate["n"]) == (0.8, 10)
    assert (rate["ci_low"], rate["ci_high"]) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_the_formulas_by_hand() -> None:
    # Of 100, 40 wrong: 32 of them and 6 of the right are refused; of the 62 kept, 8 are wrong.
    assert recipe_error(0.38, 0.9, 0.2) == pytest.approx(0.4)
    assert residual_error(0.4, 0.9, 0.2) == pytest.approx(8 / 62)
    assert residual_error(0.5, 0.0, 0.0) == 0.0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_error_is_found_again_and_what_is_left_is_less(error: float, a: float, b: float) -> None:
    keep_wrong, keep_right = sorted((a, b))
    if keep_right - keep_wrong < 0.01:
        return
    refused = error * (1 - keep_wrong) + (1 - error) * (1 - keep_right)
    assert recipe_error(refused, keep_right, keep_wrong) == pytest.approx(error, abs=1e-6)
    assert residual_error(error, keep_right, keep_wrong) <= error + 1e-9


def measured(keep_right: float, keep_wrong: float) -> dict[str, Any]:
    return {"combined": {"keep_right": {"rate": keep_right}, "keep_wrong": {"rate": keep_wrong}}}


def refusals(filter: str, batch: list[Candidate]) -> list[Rejection]:
    return [
        Rejection(filter=filter, reason="x: y", candidate_id=one.id, seed_id="", recipe=one.recipe) for one in batch
    ]


def test_recipes_are_flagged_by_what_their_filters_leave() -> None:
    filters = [PluginRef(name="format"), JUDGE, NOVELTY]
    good = [rows.candidate(n, recipe="good") for n in range(100)]
    bad = [rows.candidate(n, recipe="bad", id=f"bad-{n}") for n in range(110)]
    known = [rows.candidate(n, recipe="known", id=f"known-{n}", gold=True) for n in range(10)]
    # Ten of the bad never reach the judge, and what novelty refuses after it has passed it.
    rejected = [
        *refusals("format", bad[:10]),
        *refusals("judge", [*bad[10:48], *good[:10]]),
        *refusals("novelty", bad[60:70]),
    ]
    first, second = recipe_errors([*good, *bad, *known], rejected, filters, measured(0.9, 0.2))
    assert (first["recipe"], first["n"], first["refused"]) == ("bad", 100, 0.38)
    assert first["error"] == pytest.approx(0.4)
    assert first["residual"] == pytest.approx(8 / 62)
    assert first["flagged"]
    assert first["why"] == "of what the filters keep, 13% is wrong, above the limit of 10%"
    assert (second["recipe"], second["flagged"], second["why"]) == ("good", False, None)
    assert second["error"] == pytest.approx(0)
    (bad_again, _) = recipe_errors([*good, *bad], rejected, filters, measured(0.9, 0.2), limit=0.2)
    assert not bad_again["flagged"]


def test_filters_that_tell_nothing_flag_every_recipe() -> None:
    (found,) = recipe_errors([rows.candidate()], [], [JUDGE], measured(0.7, 0.7))
    assert found["flagged"]
    assert found["residual"] is None
    assert found["why"] == "its filters keep 0.70 of what is right and 0.70 of what is wrong"
