"""Rubric grades, comparisons in both orders, committees."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from generate.curation import FilterContext
from generate.filters import judge
from generate.rubrics import DEFAULT, Rubric, read_rubric
from synthloop.errors import UserError
from synthloop.records import Decision, Request
from synthloop.store import write_rows
from tests.generate import rows
from tests.generate.filters import ruled

Better = Callable[[str, str], str]
"""What a judge calls better, given answer A and answer B."""


def grades(correctness: int, problem: int = 5, form: int = 5) -> str:
    return json.dumps({"reason": "so", "correctness": correctness, "problem": problem, "form": form})


def graded(ctx: FilterContext, **settings: Any) -> Decision:
    (decision,) = judge.check(judge.Config(**settings), [rows.candidate()], ctx)
    return decision


@pytest.mark.parametrize(
    ("reply", "kind", "score"),
    [
        (grades(5), None, 1.0),
        (grades(4, 4, 3), None, (3 * 0.75 + 2 * 0.75 + 0.5) / 6),
        (grades(3), "low: 0 of 1 judges pass it (correctness 3)", (3 * 0.5 + 3) / 6),
        (grades(4, 3, 1), "low: 0 of 1 judges pass it (score 0.54)", (3 * 0.75 + 2 * 0.5) / 6),
        (grades(9), "malformed: no reply of 1 judges is such JSON", None),
    ],
)
def test_grades_by_the_shipped_rubric(tmp_path: Path, reply: str, kind: str | None, score: float | None) -> None:
    decision = graded(ruled.context(tmp_path, reply=lambda model, request: reply))
    assert (decision.keep, decision.reason) == (kind is None, kind)
    assert decision.score == (None if score is None else pytest.approx(score))
    assert not decision.changes


def test_the_prompt_holds_sample_and_criteria(tmp_path: Path) -> None:
    graded(ruled.context(tmp_path, reply=lambda model, request: grades(5)))
    ((_, request),) = ruled.Rules.asked
    text = request.messages[-1]["content"]
    assert rows.candidate().input in text
    assert all(one.question in text for one in read_rubric(None).criteria.values())
    properties = request.sampling["structured_outputs"]["json"]["properties"]
    assert list(properties) == ["reason", "correctness", "problem", "form"]
    assert (properties["form"]["minimum"], properties["form"]["maximum"]) == (1, 5)


def test_a_rubric_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("low: 0\nhigh: 10\ncriteria: {tone: {question: 'Is it kind?'}}\n")
    ctx = ruled.context(tmp_path / "run", reply=lambda model, request: '{"reason": "", "tone": 8}')
    assert graded(ctx, rubric=path, min_score=0.8) == Decision(keep=True, score=0.8)
    assert not graded(ctx, rubric=path, min_score=0.81).keep


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("criteria: {}", "criteria"),
        ("criteria: {a: {question: q, mn: 3}}", "mn"),
        ("criteria: {a: {question: q, min: 6}}", "outside 1 to 5"),
        ("criteria: {reason: {question: q}}", "cannot name a grade"),
        ("low: 5\ncriteria: {a: {question: q}}", "not below"),
        ("criteria: [", "not valid YAML"),
    ],
)
def test_a_bad_rubric_is_told_before_anything_runs(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        read_rubric(path)
    with pytest.raises(ValidationError):
        judge.Config(rubric=path)
    with pytest.raises(UserError, match=str(DEFAULT)):
        read_rubric(tmp_path / "none.yaml")


def test_the_score_is_the_weighted_mean() -> None:
    rubric = Rubric.model_validate({"criteria": {"a": {"question": "", "weight": 3}, "b": {"question": ""}}})
    assert rubric.score({"a": 5, "b": 1}) == 0.75
    assert rubric.score({"a": 1, "b": 1}) == 0


def by(better: Better) -> Callable[[str, Request], str]:
    """A judge that sees the two answers and names A, B or tie."""

    def reply(model: str, request: Request) -> str:
        text = request.messages[-1]["content"]
        a, b = (text.partition(f"<answer_{name}>\n")[2].partition(f"\n</answer_{name}>")[0] for name in "AB")
        return json.dumps({"reason": "so", "better": better(a, b)})

    return reply


@pytest.mark.parametrize(
    ("better", "reason", "score"),
    [
        (lambda a, b: "A" if "good" in a else "B", None, 1.0),
        (lambda a, b: "B" if "good" in a else "A", "loss: 0 of 1 judges pass it (loss as A, loss as B)", 0.0),
        (lambda a, b: "tie", "tie: 0 of 1 judges pass it (tie as A, tie as B)", 0.5),
        (lambda a, b: "A", "order: 0 of 1 judges pass it (win as A, loss as B)", 0.5),
        (lambda a, b: "A" if "good" in a else "tie", "order: 0 of 1 judges pass it (win as A, tie as B)", 0.75),
    ],
)
def test_both_orders_are_asked(tmp_path: Path, better: Better, reason: str | None, score: float) -> None:
    ctx = ruled.context(tmp_path, reply=by(better))
    batch = [rows.candidate(1, completion="good", rejected="poor"), rows.candidate(2)]
    compared, alone = judge.check(judge.Config(against="rejected"), batch, ctx)
    assert (compared.reason, compared.score) == (reason, score)
    assert alone == Decision(keep=True)
    assert len(ruled.Rules.asked) == 2


def test_against_the_real_example_a_tie_is_enough(tmp_path: Path) -> None:
    ctx = ruled.context(tmp_path, reply=by(lambda a, b: "tie"))
    write_rows(ctx.run.round_dir(1) / "seeds.jsonl", [rows.seed(7)])
    one = rows.candidate(7)
    (decision,) = judge.check(judge.Config(against="reference"), [one], ctx)
    assert decision == Decision(keep=True, score=0.5)
    first, second = (request.messages[-1]["content"] for _, request in ruled.Rules.asked)
    real = rows.seed(7).example
    assert first.index(one.input) < first.index(real.input)
    assert second.index(real.input) < second.index(one.input)
    assert real.completion in first


def split_panel(model: str, request: Request) -> str:
    return grades(1 if model == ruled.MODELS[0] else 5)


def test_a_committee_votes_and_its_agreement_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ctx = ruled.context(tmp_path, reply=split_panel, judges=3)
    with caplog.at_level(logging.INFO, "synthloop.curate"):
        kept = graded(ctx, min_agreement=0.6)
    assert {model for model, _ in ruled.Rules.asked} == set(ruled.MODELS)
    assert kept.keep
    assert kept.score == pytest.approx((0.5 + 1 + 1) / 3)
    assert kept.scores["judge_agreement"] == pytest.approx(1 / 3)
    assert "3 verdicts of 3 judges on 1 candidates; agreement 0.33" in caplog.text
    refused = graded(ctx, min_agreement=0.7)
    assert refused.reason == "disagreement: 2 of 3 judges pass it (correctness 1)"


def test_a_judge_that_cannot_be_read_has_no_vote(tmp_path: Path) -> None:
    ctx = ruled.context(tmp_path, reply=lambda model, request: "{" if model == ruled.MODELS[0] else grades(5), judges=2)
    assert graded(ctx, min_agreement=1.0) == Decision(keep=True, score=1.0)
