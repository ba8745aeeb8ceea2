"""Rejection sampling: right, sound and distinct solutions of real train problems, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from generate.context import Reject
from generate.recipes import rejection
from synthloop.records import Candidate
from tests.generate import rows, scripted
from tests.generate.play import answer, play
from tests.generate.runs import build_run
from tests.generate.test_context import open_context

# The problem: Tom has 3 apples and buys 4 more. The gold answer is 7.
SEED = rows.seed(3, response=None)


def solved(*replies: str, **settings: Any) -> Any:
    return play("rejection", SEED, replies, num_solutions=len(replies), **settings)[0]


def test_right_and_distinct_solutions_are_kept_in_their_order() -> None:
    outcomes = solved(
        "3+4=7\n#### 7",
        "3+4=8\n#### 8",
        "Now he has 3 + 4 = 7 apples.\n#### 7",
        "3+2=5\n5+2=7\n#### 7",
        "no idea",
    )
    first, second = outcomes
    assert isinstance(first, Candidate)
    assert (first.id, second.id) == ("r001-repair-00003", "r001-repair-00003.1")
    assert (first.completion, second.completion) == ("3+4=7\n#### 7", "3+2=5\n5+2=7\n#### 7")
    for one in outcomes:
        assert (one.input, one.messages) == (SEED.example.input, SEED.example.messages)
        assert (one.answer, one.gold, one.votes) == ("7", True, ("7", "8", "7", "7", None))
        assert one.scores == {"pass_rate": 0.6}
        assert one.lineage["prompts"] == ["solve_real.jinja"]
    assert (first.lineage["solution"], second.lineage["solution"]) == (0, 3)
    assert second.lineage["request"] == second.lineage["requests"][3]
    assert second.lineage["model"] == "quickstart/student"
    assert {key: first.lineage[key] for key in ("num_right", "num_sound", "num_distinct")} == {
        "num_right": 3,
        "num_sound": 3,
        "num_distinct": 2,
    }


def test_without_equations_words_tell_solutions_apart() -> None:
    outcomes = solved("Seven.\n#### 7", "seven\n####  7;", "He counts to seven.\n#### 7")
    assert [one.completion for one in outcomes] == ["Seven.\n#### 7", "He counts to seven.\n#### 7"]


def test_no_more_than_the_cap_of_a_problem() -> None:
    ways = [f"{n}+{7 - n}=7\n#### 7" for n in range(6)]
    assert [one.completion for one in solved(*ways, max_per_problem=2)] == ways[:2]


def test_a_wrong_calculation_on_the_way_to_the_right_number_is_dropped() -> None:
    (only,) = solved("3+4=8\n8-1=7\n#### 7", "3+4=7\n#### 7")
    assert only.completion == "3+4=7\n#### 7"
    assert (only.lineage["num_right"], only.lineage["num_sound"]) == (2, 1)


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        (["#### 8", "no idea"], "unsolved: none of 2"),
        (["#### 7…"], "unsolved"),
        (["3+4=9\n9-2=8\n#### 7"], "unsound: 1 of 1"),
    ],
)
def test_a_problem_that_nothing_solves_is_refused(replies: list[str], kind: str) -> None:
    outcome = solved(*replies)
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith(kind)


def test_held_out_problems_and_those_without_gold_are_never_asked() -> None:
    assert rejection.SEEDS == "train"
    for seed, kind in [
        (rows.seed(3, response="#### 99"), "held out"),
        (rows.seed(response=None, example=rows.example(3, answer=None)), "no gold"),
    ]:
        outcome, asked = play("rejection", seed, [])
        assert isinstance(outcome, Reject)
        assert outcome.reason.startswith(f"{kind}:")
        assert asked == []


def test_the_gold_is_not_shown_and_the_whole_conversation_is() -> None:
    turns = (
        {"role": "system", "content": "You count."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "How many apples?"},
    )
    example = rows.example(3, messages=turns, completion="A GOLD RATIONALE #### 7")
    for demonstrations in [(), (rows.example(100),)]:
        seed = rows.seed(example=example, response=None, demonstrations=demonstrations)
        outcomes, (first,) = play("rejection", seed, ["#### 7"], num_solutions=1)
        assert outcomes[0].messages == turns
        assert not any("GOLD" in turn["content"] for turn in first.messages)
        assert "You count." in first.messages[0]["content"]
        shown = [turn["role"] for turn in first.messages]
        assert shown == ["system", *["user", "assistant"] * len(demonstrations), "user", "assistant", "user"]
        assert first.messages[-1]["content"] == "How many apples?"


def test_a_committee_takes_turns(tmp_path: Path) -> None:
    members = [{**scripted.ROLE, "sampling": {"temperature": heat}} for heat in (0.5, 0.9)]
    ctx = open_context(build_run(tmp_path / "run", roles={"teacher": members}), SEED)
    ctx.config = rejection.Config(num_solutions=4)
    _, asked = answer(rejection.run(SEED, ctx), ["#### 7"] * 4)
    assert [one.sampling["temperature"] for one in asked] == [0.5, 0.9, 0.5, 0.9]
    assert len({one.sampling["seed"] for one in asked}) == 4


def test_the_student_may_be_the_solver() -> None:
    _, asked = play("rejection", SEED, ["#### 7"] * 2, solver="student", num_solutions=2)
    assert {one.role for one in asked} == {"student"}
