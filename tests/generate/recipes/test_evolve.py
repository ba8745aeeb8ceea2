"""Evol-Instruct: the chain of evolutions, the operators, and each rule by which an evolution is eliminated."""

from __future__ import annotations

import json
from typing import Any

import pytest

from generate.context import Reject
from generate.recipes import evolve
from synthloop.records import Candidate, Request
from tests.generate import rows
from tests.generate.play import play

SEED = rows.seed(response=None)
HARDER = "Tom has 0 apples, buys 4 more and gives his sister half of them. How many apples does he have now?"
HARDEST = "Tom has 0 apples, buys 4 more, gives his sister half and eats one. How many apples does he have now?"


def verdict(word: str = "not equal") -> str:
    return json.dumps({"difference": "one more step", "verdict": word})


def evolved(*replies: str, **settings: Any) -> tuple[list[Any], list[Request]]:
    """One operator, one solution, unless told otherwise."""
    return play("evolve", SEED, replies, **{"operators": ["reasoning"], "num_solutions": 1, **settings})


def test_each_step_evolves_what_the_one_before_left() -> None:
    replies = [HARDER, verdict(), "4/2=2\n#### 2", HARDEST, verdict(), "4/2=2\n2-1=1\n#### 1"]
    (first, second), asked = evolved(*replies, num_steps=2)
    assert (first.input, first.completion, first.answer) == (HARDER, "4/2=2\n#### 2", "2")
    assert (second.input, second.answer, second.votes) == (HARDEST, "1", ("1",))
    assert first.lineage["operators"] == ["reasoning"]
    assert second.lineage["operators"] == ["reasoning", "reasoning"]
    assert first.lineage["prompts"] == ["evolve_depth.jinja", "evolve_judge.jinja", "solve.jinja"]
    assert len(second.lineage["requests"]) == 6
    assert SEED.example.input in asked[0].messages[-1]["content"]
    assert HARDER in asked[3].messages[-1]["content"]
    assert SEED.example.input not in asked[3].messages[-1]["content"]


def test_each_operator_has_instructions_of_its_own() -> None:
    asked = {
        operator: evolved("…", operators=[operator], num_steps=1)[1][0].messages[-1]["content"]
        for operator in ("constraints", "deepen", "concretise", "reasoning", "complicate_input", "broaden")
    }
    assert len(set(asked.values())) == 6
    assert all(SEED.example.input in text for text in asked.values())
    assert "one or two more steps" in asked["reasoning"]
    assert "table" in asked["complicate_input"]
    assert "brand new" in asked["broaden"]


def test_all_operators_are_drawn_and_the_draws_repeat() -> None:
    def prompts() -> list[str]:
        _, asked = play("evolve", SEED, ["…"] * 60, num_steps=60)
        return [one.messages[-1]["content"] for one in asked]

    assert len(set(prompts())) == 6
    assert prompts() == prompts()


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([SEED.example.input.upper()], "no gain: the text is the same"),
        ([HARDER, verdict("equal")], "no gain: the judge calls them equal"),
        (["The rewritten problem: how many?"], "prompt copied: contains 'rewritten problem'"),
        (["<problem>How many?</problem>"], "prompt copied: contains '<problem>'"),
        ([HARDER, "Not equal, I think."], "malformed: the judge's verdict is not JSON ('Not equal, I think.')"),
        (["  "], "empty: the new problem has no text"),
        (["How many…"], "truncated: the new problem hit max_tokens"),
        ([HARDER, verdict(), "no idea"], "no solution has an answer that parses"),
        ([HARDER, verdict(), "I'm sorry, I can't say. #### 0"], "refusal: the answer says sorry"),
    ],
)
def test_a_failed_evolution_is_dropped_and_its_parent_evolved_again(replies: list[str], reason: str) -> None:
    (failed, kept), asked = evolved(*replies, HARDEST, verdict(), "#### 1", num_steps=2)
    assert isinstance(failed, Reject)
    assert failed.reason == reason
    assert isinstance(kept, Candidate)
    assert kept.input == HARDEST
    assert kept.lineage["operators"] == ["reasoning"], "the failed step is not in the path"
    assert SEED.example.input in asked[len(replies)].messages[-1]["content"]


def test_an_answer_of_stop_words_only_has_no_content() -> None:
    assert evolve._refused("... so it is the, and!") is not None
    assert evolve._refused("?!") is not None
    assert evolve._refused("It is 4.") is None


def test_a_long_answer_may_be_sorry() -> None:
    assert evolve._refused("sorry " + "word " * 78) is not None
    assert evolve._refused("sorry " + "word " * 79) is None


def test_words_of_the_problem_itself_are_no_leak() -> None:
    assert evolve._copied("Solve the given problem of Ann.", "Solve the given problem of Ann in two steps.") is None


def test_the_judge_is_a_role_of_its_own_and_sees_both_texts() -> None:
    _, asked = evolved(HARDER, verdict("equal"), judge="judge", num_steps=1)
    assert [one.role for one in asked] == ["teacher", "judge"]
    assert asked[1].sampling["temperature"] == 0.0
    assert asked[1].sampling["structured_outputs"]
    shown = asked[1].messages[-1]["content"]
    assert shown.index(SEED.example.input) < shown.index(HARDER)
