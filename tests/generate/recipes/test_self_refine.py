"""Self-Refine: draft, critique, revise, and votes that have seen none of it."""

from __future__ import annotations

import json

import pytest

from generate.context import Reject
from synthloop.records import Candidate
from tests.generate import rows
from tests.generate.play import play

NEW = "Ann has 2 pens and finds 3. How many has she?"
PASS = json.dumps({"feedback": "none", "verdict": "pass"})


def revise(feedback: str) -> str:
    return json.dumps({"feedback": feedback, "verdict": "revise"})


def test_a_draft_that_passes_is_kept_with_its_votes() -> None:
    replies = [NEW, "2+3=5\n#### 5", PASS, "#### 5", "#### 6", "none"]
    outcome, asked = play("self_refine", rows.seed(), replies, critic="critic")
    assert isinstance(outcome, Candidate)
    assert (outcome.input, outcome.completion, outcome.answer) == (NEW, "2+3=5\n#### 5", "5")
    assert (outcome.votes, outcome.scores) == (("5", "6", None), {"revisions": 0.0})
    assert (outcome.lineage["drafts"], outcome.lineage["feedback"]) == ([], [])
    assert [one.role for one in asked] == ["teacher", "teacher", "critic", "teacher", "teacher", "teacher"]
    assert asked[2].sampling["temperature"] == 0.0
    assert asked[2].sampling["structured_outputs"]
    assert NEW in asked[2].messages[-1]["content"]
    assert "2+3=5" in asked[2].messages[-1]["content"]


def test_an_answer_is_revised_with_all_that_was_said_in_view() -> None:
    drafts = ["2*3=6\n#### 6", "2+3=4\n#### 4", "2+3=5\n#### 5"]
    replies = [NEW, drafts[0], revise("add, do not multiply"), drafts[1], revise("2+3 is not 4"), drafts[2], PASS]
    outcome, asked = play("self_refine", rows.seed(), replies, num_votes=0)
    assert isinstance(outcome, Candidate)
    assert (outcome.completion, outcome.answer, outcome.votes) == (drafts[2], "5", ())
    assert outcome.scores == {"revisions": 2.0}
    assert outcome.lineage["drafts"] == drafts[:2]
    assert outcome.lineage["feedback"] == ["add, do not multiply", "2+3 is not 4"]
    last = asked[5].messages
    assert [turn["content"] for turn in last if turn["role"] == "assistant"][-2:] == drafts[:2]
    assert "add, do not multiply" in last[-3]["content"]
    assert "2+3 is not 4" in last[-1]["content"]
    assert drafts[0] not in asked[4].messages[-1]["content"], "the critic sees the present answer only"


def test_the_votes_see_neither_answer_nor_feedback_nor_failure() -> None:
    replies = [NEW, "DRAFT #### 6", revise("FEEDBACK"), "REVISED #### 5", PASS, "#### 5", "#### 5"]
    _, asked = play("self_refine", rows.seed(), replies, num_votes=2)
    for vote in asked[-2:]:
        assert vote.messages == asked[1].messages
        assert not any(word in str(vote.messages) for word in ("DRAFT", "FEEDBACK", "REVISED", "#### 99"))
    assert len({one.sampling["seed"] for one in (asked[1], *asked[-2:])}) == 3


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["How…"], "truncated: the new problem"),
        ([" "], "empty: the new problem"),
        ([NEW, "2+3…"], "truncated: the answer"),
        ([NEW, " "], "empty: the answer"),
        ([NEW, "#### 6", revise("add"), "#### 5…"], "truncated: the answer"),
        ([NEW, "#### 6", "It is wrong."], "malformed: the critic's verdict is not JSON"),
        ([NEW, "#### 6", revise("add"), "#### 7", revise("add")], "not passed"),
        ([NEW, "#### 6", revise("add"), "Thanks to the critic, 5.\n#### 5", PASS], "revision: the answer speaks of it"),
    ],
)
def test_what_never_passes_whole_is_refused(replies: list[str], reason: str) -> None:
    outcome, asked = play("self_refine", rows.seed(), replies, max_revisions=1, num_votes=0)
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith(reason)
    assert len(asked) == len(replies)


def test_without_revisions_the_critic_is_a_filter() -> None:
    outcome, _ = play("self_refine", rows.seed(), [NEW, "#### 6", revise("add")], max_revisions=0)
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith("not passed")
