"""role_play: whose turn it is, who sees what, how the conversation ends and what the sample holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from generate.context import Context, Reject
from generate.recipes import role_play
from synthloop.task import open_task
from tests.generate import rows
from tests.generate.play import answer, desk, play

TASK = "A stall sold 3 crates of 8 plums and then 5 plums more. How many plums is that?"
CAST = json.dumps({"user_role": "fruit seller", "assistant_role": "accountant", "task": TASK})


def turn(message: str, done: bool = False) -> str:
    return json.dumps({"task_done": done, "message": message})


REPLIES = [
    CAST,
    turn("I sold 3 crates of 8 plums. How many is that?"),
    "3*8=24 plums.",
    turn("And 5 more. How many in all?", done=True),
    "24+5=30\n#### 30",
    "24+5=29\n#### 29",
    "That is 29.\n#### 29",
]


def roles(messages: Any) -> list[str]:
    return [one["role"] for one in messages]


def test_the_sample_is_the_conversation_and_the_majority_s_last_turn() -> None:
    outcome, asked = play("role_play", rows.seed(id="role_play-00000"), REPLIES, num_solutions=3)
    assert [(one["role"], one["content"]) for one in outcome.messages] == [
        ("user", "I sold 3 crates of 8 plums. How many is that?"),
        ("assistant", "3*8=24 plums."),
        ("user", "And 5 more. How many in all?"),
    ]
    assert outcome.completion == "24+5=29\n#### 29"
    assert (outcome.answer, outcome.votes) == ("29", ("30", "29", "29"))
    assert outcome.input == "\n\n".join(one["content"] for one in outcome.messages)
    assert outcome.lineage["cast"]["task"] == TASK
    assert (outcome.lineage["num_turns"], outcome.lineage["task_done"]) == (2, True)
    assert len(asked) == 7


def test_the_assistant_sees_what_was_said_and_not_the_task() -> None:
    _, asked = play("role_play", rows.seed(), REPLIES, num_solutions=3)
    cast, first, reply, second, *results = asked
    assert "#### 99" in cast.messages[-1]["content"]
    assert all(TASK in one.messages[-1]["content"] for one in (first, second))
    assert "assistant: 3*8=24 plums." in second.messages[-1]["content"]
    assert roles(reply.messages) == ["system", "user"]
    assert roles(results[0].messages) == ["system", "user", "assistant", "user"]
    for request in (reply, *results):
        told = " ".join(one["content"] for one in request.messages)
        assert "accountant" in told
        assert TASK not in told
        assert "99" not in told


def test_the_roles_are_those_of_the_config() -> None:
    _, asked = play("role_play", rows.seed(), REPLIES, num_solutions=3, user="critic", assistant="expert")
    assert [one.role for one in asked] == ["teacher", "critic", "expert", "critic", "expert", "expert", "expert"]


def test_the_last_turn_asks_for_the_result_whether_or_not_the_user_is_done() -> None:
    replies = [*REPLIES[:3], turn("How many in all?"), "#### 29"]
    outcome, asked = play("role_play", rows.seed(), replies, num_solutions=1, max_turns=2)
    assert "This is your last message" not in asked[1].messages[-1]["content"]
    assert "This is your last message" in asked[3].messages[-1]["content"]
    assert outcome.completion == "#### 29"
    assert (outcome.lineage["num_turns"], outcome.lineage["task_done"]) == (2, False)


def test_the_last_request_stands_in_the_task_s_own_prompt() -> None:
    cfg = role_play.Config(num_solutions=1)
    task = open_task("word_problems", {"system": "Be exact.", "prompt": "{{ input }}\nEnd with ####."})
    seed = rows.seed(recipe="role_play")
    outcome, asked = answer(
        role_play.run(seed, Context(desk()._replace(task=task), seed, cfg)), [*REPLIES[:4], "#### 29"]
    )
    assert roles(outcome.messages) == ["system", "user", "assistant", "user"]
    assert outcome.messages[0]["content"] == "Be exact."
    assert outcome.messages[-1]["content"] == "And 5 more. How many in all?\nEnd with ####."
    assert asked[-1].messages[-1]["content"] == outcome.messages[-1]["content"]


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["no JSON"], "malformed: the cast is not JSON ('no JSON')"),
        ([CAST, "no JSON"], "malformed: the user's turn is not JSON ('no JSON')"),
        ([CAST, turn("All of it?", done=True)], "single turn: the user called the task done before any of it was"),
        ([*REPLIES[:2], "3*8…"], "truncated: a turn of the assistant hit max_tokens"),
        ([*REPLIES[:2], " "], "empty: a turn of the assistant has no text"),
        ([*REPLIES[:4], "who knows", "#### 29…"], "no answer: no result of the task has one that parses"),
    ],
)
def test_refusals(replies: list[str], reason: str) -> None:
    outcome, asked = play("role_play", rows.seed(), replies, num_solutions=2)
    assert outcome == Reject(reason)
    assert len(asked) == len(replies)


def test_a_seed_without_a_failure_speaks_of_none() -> None:
    _, asked = play("role_play", rows.seed(response=None), REPLIES, num_solutions=3)
    assert "wrong" not in asked[0].messages[-1]["content"]
