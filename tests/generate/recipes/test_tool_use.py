"""Trajectories of tool calls that are checked and executed in the real sandbox."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jinja2 import TemplateError
from pydantic import ValidationError

from generate import sandbox
from generate.context import Reject
from generate.recipes.tool_use import Config
from synthloop.chat import load_tokenizer
from synthloop.errors import UserError
from synthloop.records import Candidate
from tests.generate import rows
from tests.generate.play import play
from tests.generate.sandboxed import skip_unless_confined

NEW = "Ann buys 12 boxes of 35 pens. How many pens?"
TOOLS = ["calculator", "python"]
REAL = rows.seed(1, response=None)  # Tom has 1 apple and buys 4 more: #### 5


@pytest.fixture(autouse=True)
def confined() -> None:
    skip_unless_confined()


def call(expression: str, tool: str = "calculator", thought: str = "I multiply.") -> str:
    return json.dumps({"thought": thought, "action": {"tool": tool, "arguments": {"expression": expression}}})


def final(answer: str) -> str:
    return json.dumps({"thought": "So it is.", "action": {"answer": answer}})


def tool_use(seed: Any, replies: Any, **settings: Any) -> tuple[Any, Any]:
    return play("tool_use", seed, replies, **{"tools": TOOLS, **settings})


def test_a_new_problem_is_solved_by_calls_and_votes() -> None:
    replies = [NEW, call("12 * 35"), final("12*35=420\n#### 420"), final("#### 421"), call("35*12"), final("#### 420")]
    outcome, asked = tool_use(rows.seed(), replies, solver="solver")
    assert isinstance(outcome, Candidate)
    assert (outcome.input, outcome.completion, outcome.answer) == (NEW, "12*35=420\n#### 420", "420")
    assert (outcome.votes, outcome.gold) == (("420", "421", "420"), False)
    assert outcome.scores == {"calls": 1.0, "bad_calls": 0.0, "pass_rate": pytest.approx(2 / 3)}
    assert outcome.lineage["problem_from"] == "teacher"
    assert outcome.lineage["calls"] == [
        {"tool": "calculator", "arguments": {"expression": "12 * 35"}, "result": "420", "fits": True}
    ]
    problem, said, told = outcome.messages
    assert [one["role"] for one in outcome.messages] == ["user", "assistant", "user"]
    assert problem["content"].endswith(f"and go on.\n\n{NEW}")
    assert all(f'"name": "{name}"' in problem["content"] for name in TOOLS)
    assert said["content"] == (
        'I multiply.\n<tool_call>\n{"name": "calculator", "arguments": {"expression": "12 * 35"}}\n</tool_call>'
    )
    assert told["content"] == "<tool_response>\n420\n</tool_response>"
    assert [one.role for one in asked] == ["teacher"] + ["solver"] * 5
    assert "#### 99" in asked[0].messages[-1]["content"], "the teacher sees what the student got wrong"
    assert not any("#### 99" in str(one.messages) for one in asked[1:])


def test_a_call_sees_those_before_it() -> None:
    _, asked = tool_use(REAL, [call("1 + 1"), call("2 + 3"), final("#### 5")], num_trajectories=1, max_steps=3)
    assert [len(one.messages) for one in asked] == [2, 4, 6]
    assert asked[2].messages[2]["content"] == call("1 + 1")
    assert asked[2].messages[3]["content"] == "<tool_response>\n2\n</tool_response>"
    assert "last reply" not in asked[1].messages[-1]["content"]
    assert asked[2].messages[-1]["content"].endswith("This is your last reply: give the answer now.")
    guide = asked[0].sampling["structured_outputs"]["json"]["properties"]["action"]["anyOf"]
    assert [one["properties"].get("tool") for one in guide] == [{"const": "calculator"}, {"const": "python"}, None]


def test_a_train_row_is_solved_as_it_is_and_gold_decides() -> None:
    replies = [call("4 + 4"), final("#### 8"), call("1 + 4"), final("#### 5"), call("1 + 4"), final("1+4=5\n#### 5")]
    outcome, asked = tool_use(REAL, replies)
    assert isinstance(outcome, Candidate)
    assert (outcome.input, outcome.completion, outcome.answer) == (REAL.example.input, "#### 5", "5")
    assert (outcome.gold, outcome.votes) == (True, ("8", "5", "5"))
    assert (outcome.lineage["problem_from"], outcome.lineage["trajectory"]) == ("train", 1)
    assert REAL.example.completion not in str(asked[0].messages), "the gold is not shown"
    outcome, _ = tool_use(REAL, [NEW, call("12*35"), final("#### 420")], use_real=False, num_trajectories=1)
    assert isinstance(outcome, Candidate)
    assert (outcome.gold, outcome.input) == (False, NEW)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (call("__import__('os')"), "Error: the call does not fit the tool's schema. arguments.expression: "),
        (call("1 + 4", tool="abacus"), "Error: there is no tool 'abacus'."),
    ],
)
def test_a_call_that_does_not_fit_is_told_once_and_counted(bad: str, told: str) -> None:
    outcome, asked = tool_use(REAL, [bad, call("1 + 4"), final("#### 5")], num_trajectories=1)
    assert isinstance(outcome, Candidate)
    assert outcome.scores == {"calls": 1.0, "bad_calls": 1.0, "pass_rate": 1.0}
    assert [one["fits"] for one in outcome.lineage["calls"]] == [False, True]
    assert told in asked[1].messages[-1]["content"]
    outcome, asked = tool_use(REAL, [bad, bad], num_trajectories=1)
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith(f"bad call: {told}")
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["How many…"], "truncated: the new problem"),
        ([" "], "empty: the new problem"),
        ([NEW, "I think it is 420."], "malformed: the step is not JSON"),
        ([NEW, '{"thought": "I…'], "truncated: the step was cut off"),
        ([NEW, final(" ")], "empty: the answer"),
        ([NEW, call("1+1"), call("1+1")], "unfinished: no answer in 2 steps"),
        ([NEW, call("12*35"), final("many")], "unsolved: "),
        ([NEW, final("#### 420")], "too few calls: "),
    ],
)
def test_what_leads_nowhere_is_refused(replies: list[str], reason: str) -> None:
    outcome, asked = tool_use(rows.seed(), replies, num_trajectories=1, max_steps=2)
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith(reason)
    assert len(asked) == len(replies)


def test_one_trajectory_that_fails_is_a_vote_less() -> None:
    replies = [NEW, "nonsense", call("12*35"), final("#### 420")]
    outcome, _ = tool_use(rows.seed(), replies, num_trajectories=2)
    assert isinstance(outcome, Candidate)
    assert outcome.votes == (None, "420")
    assert outcome.lineage["failures"] == ["malformed: the step is not JSON ('nonsense')"]


def test_a_wrong_real_answer_is_refused() -> None:
    outcome, _ = tool_use(REAL, [call("4 + 4"), final("#### 8")], num_trajectories=1)
    assert isinstance(outcome, Reject)
    assert outcome.reason == "unsolved: no answer is right"


def test_the_user_s_own_tool_is_called() -> None:
    own = {
        "name": "stock",
        "description": "How many of an item there are.",
        "parameters": {"type": "object", "properties": {"item": {"enum": ["pen", "cup"]}}, "required": ["item"]},
        "code": 'import json, sys\nprint({"pen": 5, "cup": 7}[json.load(sys.stdin)["item"]])',
    }
    reply = json.dumps({"thought": "", "action": {"tool": "stock", "arguments": {"item": "pen"}}})
    outcome, _ = tool_use(REAL, [reply, final("#### 5")], tools=[own], num_trajectories=1)
    assert isinstance(outcome, Candidate)
    assert outcome.messages[-1]["content"] == "<tool_response>\n5\n</tool_response>"
    assert outcome.messages[1]["content"].startswith("<tool_call>")


def test_a_chat_template_of_user_and_assistant_alone_takes_the_sample() -> None:
    outcome, _ = tool_use(REAL, [call("1 + 4"), final("#### 5")], num_trajectories=1)
    strict = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}{{ m.content }}{% endfor %}"
    )
    turns = [*outcome.messages, {"role": "assistant", "content": outcome.completion}]
    tokenizer = load_tokenizer("quickstart/student")
    text = tokenizer.apply_chat_template(turns, chat_template=strict, tokenize=False)
    assert text.endswith("</tool_response>#### 5")
    with pytest.raises(TemplateError):
        tokenizer.apply_chat_template(turns[1:], chat_template=strict, tokenize=False)


@pytest.mark.parametrize(
    ("tools", "told"), [([], "at least 1 item"), (["pyton"], "Did you mean 'python'"), (["python"] * 2, "same name")]
)
def test_bad_lists_of_tools_are_told(tools: list[str], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Config.model_validate({"tools": tools})


def test_nothing_is_asked_where_code_cannot_be_confined(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UserError("Model-written code cannot be confined")

    monkeypatch.setattr(sandbox, "require", refuse)
    with pytest.raises(UserError, match="cannot be confined"):
        tool_use(rows.seed(), [])
