"""STaR: rationales that are right, rationalisations of those that are not, and no hint in the sample."""

from __future__ import annotations

import pytest

from generate.context import Reject
from generate.recipes import star
from synthloop.records import Candidate
from tests.generate import rows
from tests.generate.play import play

# The problem: Tom has 3 apples and buys 4 more. The gold answer is 7.
SEED = rows.seed(3, response=None)
HINT = "(Hint: the right answer is 7.)"


def test_a_right_rationale_is_kept_as_it_is() -> None:
    outcome, asked = play("star", SEED, ["3+4=7\n#### 7"])
    assert isinstance(outcome, Candidate)
    assert (outcome.input, outcome.messages, outcome.completion) == (
        SEED.example.input,
        SEED.example.messages,
        "3+4=7\n#### 7",
    )
    assert (outcome.answer, outcome.gold, outcome.depth) == ("7", True, 1)
    assert (outcome.lineage["step"], outcome.lineage["first_answer"]) == ("rationale", "7")
    assert outcome.lineage["roles"] == ["student"]
    (only,) = asked
    assert only.sampling == {"temperature": 0.0}
    assert "Hint" not in str(only.messages)
    assert SEED.example.completion not in str(only.messages)


def test_a_wrong_one_is_rationalised_and_the_sample_has_no_hint() -> None:
    outcome, asked = play("star", SEED, ["3*4=12\n#### 12", "He buys 4 more, so 3+4=7.\n#### 7"])
    assert isinstance(outcome, Candidate)
    assert (outcome.completion, outcome.gold) == ("He buys 4 more, so 3+4=7.\n#### 7", True)
    assert outcome.messages == SEED.example.messages
    assert "Hint" not in str(outcome.messages)
    assert (outcome.lineage["step"], outcome.lineage["first_answer"]) == ("rationalisation", "12")
    assert outcome.lineage["prompts"] == ["solve_real.jinja", "star_rationalise.jinja"]
    hinted = asked[1].messages
    assert hinted[-1]["content"].endswith(HINT)
    assert hinted[-1]["content"].startswith(SEED.example.input)
    assert "3*4=12" not in str(hinted), "the wrong attempt is not shown"
    assert SEED.example.completion not in str(hinted), "the gold answer is a hint, its rationale is not given"


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["#### 12", "#### 13"], "wrong: '13', the gold answer is '7'"),
        (["#### 12", "3+4=7 so #### 7…"], "wrong: None"),
        (["no idea", "As the hint says, 7.\n#### 7"], "hint: the rationale tells of it, 'hint'"),
        (["no idea", "3+4=7, which is the given answer.\n#### 7"], "hint:"),
        (["#### 12", "#### 7"], "no rationale"),
        (["#### 7"], "no rationale"),
    ],
)
def test_what_is_wrong_or_no_rationale_is_refused(replies: list[str], reason: str) -> None:
    outcome, asked = play("star", SEED, replies)
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith(reason)
    assert len(asked) == len(replies)


def test_a_right_rationale_may_speak_of_hints() -> None:
    outcome, _ = play("star", SEED, ["Ann's hint costs nothing: 3+4=7.\n#### 7"])
    assert isinstance(outcome, Candidate)


def test_without_rationalisation_a_wrong_one_is_the_end() -> None:
    outcome, asked = play("star", SEED, ["#### 12"], rationalise=False)
    assert isinstance(outcome, Reject)
    assert len(asked) == 1


def test_held_out_problems_are_never_asked() -> None:
    assert star.SEEDS == "train"
    outcome, asked = play("star", rows.seed(3, response="#### 99"), [])
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith("held out:")
    assert asked == []


def test_who_the_student_is_can_be_set() -> None:
    _, (only,) = play("star", SEED, ["3+4=7\n#### 7"], student="teacher")
    assert only.role == "teacher"
