"""Self-Consistency: the majority is the label, its share the confidence, a tie no label."""

from __future__ import annotations

from pathlib import Path

import pytest

from generate.context import Reject
from generate.recipes import self_consistency
from synthloop.records import Candidate
from tests.generate import rows, scripted
from tests.generate.play import answer, play
from tests.generate.runs import build_run
from tests.generate.test_context import open_context

NEW = "Ann has 2 pens and finds 3. How many has she?"


def test_the_majority_labels_the_problem_and_its_share_is_the_confidence() -> None:
    replies = [NEW, "#### 6", "2+3=5\n#### 5", "none", "3+2=5\n#### 5"]
    outcome, asked = play("self_consistency", rows.seed(), replies, num_solutions=4)
    assert isinstance(outcome, Candidate)
    assert (outcome.input, outcome.completion, outcome.answer) == (NEW, "2+3=5\n#### 5", "5")
    assert (outcome.votes, outcome.scores) == (("6", "5", None, "5"), {"agreement": 0.5})
    assert not outcome.gold
    assert outcome.lineage["prompts"] == ["repair.jinja", "solve.jinja"]
    assert "#### 99" in asked[0].messages[-1]["content"], (
        "the student's wrong answer is what the problem is written from"
    )
    assert not any("#### 99" in str(one.messages) for one in asked[1:]), "and the solver never sees it"
    assert all(one.messages[-1]["content"] == NEW for one in asked[1:])


def test_without_a_failure_a_like_problem_is_written() -> None:
    outcome, _ = play("self_consistency", rows.seed(response=None), [NEW, "#### 5", "#### 5"], num_solutions=2)
    assert outcome.lineage["prompts"] == ["solve.jinja", "variation.jinja"]
    assert outcome.scores == {"agreement": 1.0}


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["How…"], "truncated"),
        ([" "], "empty"),
        ([NEW, "none", "#### 5…", "nor here"], "no answer"),
        ([NEW, "#### 5", "#### 6", "none"], "tie: 1 of 3"),
    ],
)
def test_what_has_no_majority_is_refused(replies: list[str], reason: str) -> None:
    outcome, asked = play("self_consistency", rows.seed(), replies, num_solutions=3)
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith(reason)
    assert len(asked) == len(replies)


def test_the_solver_is_a_role_and_a_committee_takes_turns(tmp_path: Path) -> None:
    members = [{**scripted.ROLE, "sampling": {"temperature": heat}} for heat in (0.5, 0.9)]
    ctx = open_context(build_run(tmp_path / "run", roles={"solver": members}))
    ctx.config = self_consistency.Config(solver="solver", num_solutions=4)
    _, asked = answer(self_consistency.run(ctx.seed, ctx), [NEW, *["#### 5"] * 4])
    assert [one.role for one in asked] == ["teacher", *["solver"] * 4]
    assert [one.sampling["temperature"] for one in asked[1:]] == [0.5, 0.9, 0.5, 0.9]
