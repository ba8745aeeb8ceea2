"""personas: what comes to mind when, what is asked, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from generate.context import Reject
from synthloop.records import Candidate
from tests.generate import rows
from tests.generate.play import play

WHO = "Ada, 40, runs an orchard in Kent and worries about the frost."
PERSONA = {
    "description": WHO,
    "observations": [
        {"text": "I sold eight crates at the market.", "hours_ago": 2, "importance": 3},
        {"text": "The frost killed a third of the trees.", "hours_ago": 100, "importance": 10},
        {"text": "I brushed my teeth.", "hours_ago": 1, "importance": 1},
    ],
}
REFLECTION = {"insights": [{"text": "I cannot rely on one crop.", "importance": 8}]}
PLAN = {"steps": ["I load crates for the market.", "I count the dead trees after the frost."]}
REPLIES = [
    json.dumps(PERSONA), json.dumps(REFLECTION), json.dumps(PLAN),
    "How many crates?", "#### 8", "How many trees?", "#### 30",
]  # fmt: skip
SETTINGS: dict[str, Any] = {"num_solutions": 1, "num_memories": 2, "reflect_at": 14}


def test_each_step_of_the_plan_gives_a_problem() -> None:
    outcomes, asked = play("personas", rows.seed(id="personas-00000"), REPLIES, **SETTINGS)
    first, second = outcomes
    assert (first.id, first.input, first.answer) == ("r001-personas-00000", "How many crates?", "8")
    assert (second.id, second.input, second.answer) == ("r001-personas-00000.1", "How many trees?", "30")
    assert [one.lineage["step"] for one in outcomes] == PLAN["steps"]
    assert all(one.lineage["persona"] == WHO for one in outcomes)
    assert len(asked) == 7


def test_what_comes_to_mind_follows_the_step() -> None:
    (first, second), asked = play("personas", rows.seed(), REPLIES, **SETTINGS)
    # Important and just concluded; then the step's own words, and the frost.
    assert "I sold eight crates at the market." in first.lineage["memories"]
    assert "The frost killed a third of the trees." in second.lineage["memories"]
    assert "I brushed my teeth." not in first.lineage["memories"] + second.lineage["memories"]
    prompt = asked[3].messages[-1]["content"]
    assert all(f"- {memory}\n" in prompt for memory in first.lineage["memories"])
    assert "I brushed my teeth." not in prompt
    assert PLAN["steps"][0] in prompt
    assert rows.example(0).input in prompt


def test_what_was_asked_is_remembered() -> None:
    plan = {"steps": ["How many crates did I load?", "How many crates are left?"]}
    replies = [json.dumps(PERSONA), json.dumps(plan), "How many crates?", "#### 8", "How many trees?", "#### 30"]
    (_, second), asked = play("personas", rows.seed(), replies, **{**SETTINGS, "reflect_at": 15})
    assert "I asked: How many crates?" in second.lineage["memories"]
    assert "I asked: How many crates?" in asked[4].messages[-1]["content"]


def test_there_is_a_reflection_only_where_enough_has_happened() -> None:
    _, asked = play("personas", rows.seed(), REPLIES, **SETTINGS)
    assert asked[1].messages[-1]["content"].count("\n- ") == 4, "two memories, and the two keys of the reply"
    assert "The frost killed" in asked[1].messages[-1]["content"]
    _, asked = play("personas", rows.seed(), [REPLIES[0], *REPLIES[2:]], **{**SETTINGS, "reflect_at": 15})
    assert len(asked) == 6


def test_one_refused_problem_does_not_cost_the_other() -> None:
    outcomes, asked = play(
        "personas", rows.seed(), [*REPLIES[:3], "How many…", "How many trees?", "#### 30"], **SETTINGS
    )
    assert isinstance(outcomes[0], Reject)
    assert isinstance(outcomes[1], Candidate)
    assert "How many…" not in asked[4].messages[-1]["content"]


def test_the_solver_sees_neither_person_nor_failure() -> None:
    _, asked = play("personas", rows.seed(response="I say #### 99"), REPLIES, **SETTINGS)
    assert "I say #### 99" in asked[3].messages[-1]["content"]
    solving = " ".join(turn["content"] for turn in asked[4].messages)
    assert "99" not in solving
    assert WHO not in solving


@pytest.mark.parametrize("position", [0, 1, 2])
def test_malformed_json_is_refused(position: int) -> None:
    outcome, _ = play("personas", rows.seed(), [*REPLIES[:position], "no JSON"], **SETTINGS)
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith("malformed: ")
