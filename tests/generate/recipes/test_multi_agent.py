"""multi_agent: who is asked what, what a review leads to, and what is refused."""

from __future__ import annotations

import json

import pytest

from generate.context import Reject
from tests.generate import rows
from tests.generate.play import play

FIRST, SECOND = "Ann has 3 pens and buys some. How many?", "Ann has 3 pens and buys 4. How many?"


def review(comments: str = "Fine.", sound: bool = True, correct: bool = True) -> str:
    return json.dumps({"comments": comments, "problem_is_sound": sound, "answer_is_correct": correct})


AGENTS = {"proposer": "one", "answerer": "two", "reviewer": "three", "reviser": "four"}


def test_what_passes_at_once_is_answered_again_and_kept() -> None:
    outcome, asked = play(
        "multi_agent", rows.seed(id="multi_agent-00000"), [SECOND, "#### 7", review(), "#### 8", "#### 7"],
        num_solutions=3, **AGENTS,
    )  # fmt: skip
    assert [one.role for one in asked] == ["one", "two", "three", "two", "two"]
    assert (outcome.input, outcome.completion, outcome.answer) == (SECOND, "#### 7", "7")
    assert outcome.votes == ("7", "8", "7")
    assert [one["comments"] for one in outcome.lineage["reviews"]] == ["Fine."]
    assert outcome.lineage["roles"] == ["one", "three", "two"]


def test_a_problem_that_is_not_sound_is_revised_and_answered_anew() -> None:
    outcome, asked = play(
        "multi_agent", rows.seed(),
        [FIRST, "#### 3", review("How many does she buy?", sound=False), SECOND, "#### 7", review(), "#### 7"],
        num_solutions=2, **AGENTS,
    )  # fmt: skip
    assert [one.role for one in asked] == ["one", "two", "three", "four", "two", "three", "two"]
    revising = asked[3].messages[-1]["content"]
    assert FIRST in revising
    assert "How many does she buy?" in revising
    assert asked[4].messages[-1]["content"] == SECOND
    assert (outcome.input, outcome.completion, outcome.votes) == (SECOND, "#### 7", ("7", "7"))
    assert len(outcome.lineage["reviews"]) == 2


def test_a_wrong_answer_is_revised_and_the_problem_kept() -> None:
    outcome, asked = play(
        "multi_agent", rows.seed(),
        [SECOND, "#### 8", review("3+4 is 7.", correct=False), "3+4=7\n#### 7", review(), "#### 7"],
        num_solutions=2, **AGENTS,
    )  # fmt: skip
    assert [one.role for one in asked] == ["one", "two", "three", "four", "three", "two"]
    revising = asked[3].messages[-1]["content"]
    assert all(text in revising for text in (SECOND, "#### 8", "3+4 is 7.", rows.example(100).completion))
    assert (outcome.input, outcome.completion, outcome.votes) == (SECOND, "3+4=7\n#### 7", ("7", "7"))


def test_the_failure_is_shown_to_the_proposer_alone() -> None:
    _, asked = play(
        "multi_agent", rows.seed(response="I say #### 99"), [SECOND, "#### 7", review(), "#### 7"], num_solutions=2
    )
    assert "I say #### 99" in asked[0].messages[-1]["content"]
    assert all("99" not in turn["content"] for one in asked[1:] for turn in one.messages)
    _, asked = play("multi_agent", rows.seed(response=None), [SECOND, "#### 7", review(), "#### 7"], num_solutions=2)
    assert "<student_answer>" not in asked[0].messages[-1]["content"]


def test_those_who_answer_again_see_no_review() -> None:
    _, asked = play("multi_agent", rows.seed(), [SECOND, "#### 7", review("A remark."), "#### 7"], num_solutions=2)
    assert asked[3].messages == asked[1].messages
    assert asked[3].sampling["seed"] != asked[1].sampling["seed"]


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["Ann…", "#### 3"], "truncated: the problem or its answer hit max_tokens"),
        ([SECOND, "#### 7…"], "truncated: the problem or its answer hit max_tokens"),
        ([SECOND, ""], "empty: the problem or its answer has no text"),
        ([SECOND, "#### 7", "no JSON"], "malformed: the review is not JSON ('no JSON')"),
        (
            [SECOND, "#### 8", review("No.", correct=False), "#### 9", review("Still no.", correct=False)],
            "not approved: Still no.",
        ),
        ([SECOND, "seven", review(), "#### 7", "#### 7"], "no answer: the approved answer has none that parses"),
        (
            [SECOND, "#### 8", review(), "#### 7", "#### 7"],
            "disagreement: the approved answer is '8', most others are '7'",
        ),
    ],
)
def test_refusals(replies: list[str], reason: str) -> None:
    outcome, asked = play("multi_agent", rows.seed(), replies, num_solutions=3, max_reviews=2)
    assert outcome == Reject(reason)
    assert len(asked) == len(replies)
