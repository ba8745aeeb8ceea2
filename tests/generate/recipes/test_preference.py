"""preference: which problems are used, how answers are scored, and which pair is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from generate.context import Reject
from generate.recipes import preference
from synthloop.records import Message
from tests.generate import rows
from tests.generate.play import play

TRAIN = rows.seed(3, id="preference-00000", response=None)
"""A real train row: 3 apples and 4 more, gold answer 7."""


def grades(*four: int) -> str:
    names = ("instruction_following", "truthfulness", "honesty", "helpfulness")
    return json.dumps({"reason": "Because.", **dict(zip(names, four, strict=True))})


def test_a_train_row_is_scored_by_the_task_against_its_gold() -> None:
    outcome, asked = play("preference", TRAIN, ["#### 8", "3+4=7\n#### 7", "#### 7", "#### 9"], num_samples=4)
    assert (outcome.input, outcome.messages) == (TRAIN.example.input, TRAIN.example.messages)
    assert (outcome.completion, outcome.rejected) == ("3+4=7\n#### 7", "#### 8")
    assert (outcome.answer, outcome.gold) == ("7", True)
    assert outcome.votes == ("8", "7", "7", "9")
    assert outcome.scores == {"chosen": 1.0, "rejected": 0.0}
    assert (outcome.lineage["scored_by"], outcome.lineage["answer_scores"]) == ("task", [0.0, 1.0, 1.0, 0.0])
    assert len(asked) == 4


def test_the_gold_answer_is_not_shown_even_without_demonstrations() -> None:
    for demonstrations in (TRAIN.demonstrations, ()):
        seed = TRAIN.model_copy(update={"demonstrations": demonstrations})
        _, asked = play("preference", seed, ["#### 8", "#### 7"], num_samples=2)
        assert all(TRAIN.example.completion not in turn["content"] for turn in asked[0].messages)
        assert asked[0].messages[-1]["content"] == TRAIN.example.input


def test_a_failure_is_held_out_so_a_new_problem_is_written_and_judged() -> None:
    seed = rows.seed(3, response="I say #### 99")
    replies = ["A new one?", "#### 5", "#### 6", grades(5, 5, 4, 5), grades(3, 1, 2, 2)]
    outcome, asked = play("preference", seed, replies, num_samples=2)
    assert outcome.input == "A new one?"
    assert seed.example.input not in str(outcome.messages)
    assert (outcome.completion, outcome.rejected, outcome.answer, outcome.gold) == ("#### 5", "#### 6", "5", False)
    assert outcome.scores == {"chosen": pytest.approx(3.75 / 4), "rejected": pytest.approx(1 / 4)}
    assert outcome.lineage["scored_by"] == "judge"
    assert "I say #### 99" in asked[0].messages[-1]["content"]
    for request in asked[1:]:
        assert all("99" not in turn["content"] for turn in request.messages)
    judged = [request.messages[-1]["content"] for request in asked[3:]]
    assert ["#### 5" in text for text in judged] == [True, False], "the judge sees one answer at a time"


def test_writer_and_rival_take_turns() -> None:
    _, asked = play(
        "preference", rows.seed(), ["New?", "#### 5", "#### 6", "#### 7", *[grades(5, 5, 5, 5)] * 3],
        num_samples=3, rival="weak", judge="judge",
    )  # fmt: skip
    assert [one.role for one in asked] == ["teacher", "teacher", "weak", "teacher", "judge", "judge", "judge"]


def test_repeated_and_truncated_answers_take_no_part_but_the_vote_is_counted() -> None:
    outcome, _ = play("preference", TRAIN, ["#### 7", "#### 7", "#### 8", "#### 1…"], num_samples=4)
    assert (outcome.completion, outcome.rejected) == ("#### 7", "#### 8")
    assert outcome.votes == ("7", "7", "8", None)
    assert outcome.lineage["answer_scores"] == [1.0, 0.0]


def test_turns_before_the_problem_are_put_to_the_writers() -> None:
    turns = (
        Message(role="system", content="Be exact."),
        Message(role="user", content="Tom has 3 apples."),
        Message(role="assistant", content="Noted."),
        Message(role="user", content="He buys 4 more. How many?"),
    )
    seed = TRAIN.model_copy(update={"example": rows.example(3, messages=turns), "demonstrations": ()})
    outcome, asked = play("preference", seed, ["#### 8", "#### 7"], num_samples=2)
    assert asked[0].messages[1:] == turns[1:]
    assert outcome.messages == turns


JUDGED = ["New?", "#### 5", "#### 6"]
FULL = grades(5, 5, 5, 5)


NO_GRADE = (
    "malformed: the verdict does not fit its schema (instruction_following: Input should be greater than or equal to 1)"
)


@pytest.mark.parametrize(
    ("seed", "replies", "reason"),
    [
        (TRAIN, ["#### 7", "#### 7"], "too few answers: fewer than two are whole and different"),
        (TRAIN, ["#### 7", " #### 7\n"], "too few answers: fewer than two are whole and different"),
        (TRAIN, ["#### 7", "#### 8…"], "too few answers: fewer than two are whole and different"),
        (TRAIN, ["#### 8", "#### 9"], "no good answer: the best scores 0.00"),
        (TRAIN, ["#### 7", "is 7"], "no margin: the best scores 1.00, the worst 1.00"),
        (rows.seed(), ["New…"], "truncated: the new problem hit max_tokens"),
        (rows.seed(), [""], "empty: the new problem has no text"),
        (rows.seed(), [*JUDGED, "no JSON", FULL], "malformed: the verdict is not JSON ('no JSON')"),
        (rows.seed(), [*JUDGED, grades(0, 5, 5, 5), FULL], NO_GRADE),
        (rows.seed(), [*JUDGED, FULL, grades(5, 5, 5, 4)], "no margin: the best scores 1.00, the worst 0.94"),
    ],
)  # fmt: skip
def test_refusals(seed: Any, replies: list[str], reason: str) -> None:
    outcome, asked = play("preference", seed, replies, num_samples=2)
    assert outcome == Reject(reason)
    assert len(asked) == len(replies)


@pytest.mark.parametrize(("four", "score"), [((1, 1, 1, 1), 0.0), ((3, 3, 3, 3), 0.5), ((5, 5, 5, 5), 1.0)])
def test_grades_are_mapped_to_0_and_1(four: tuple[int, int, int, int], score: float) -> None:
    assert preference.Verdict.model_validate_json(grades(*four)).score == score
