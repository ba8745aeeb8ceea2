"""Calls: their arguments are one object, however a model wrote them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from generate.acting import ActingConfig, Call, Done, Step, turns
from generate.tools import BUILT_IN
from synthloop.guided import for_grammar, guide
from synthloop.records import Message

TEXTS = st.text(max_size=20) | st.text("\"\\\n{}'é", max_size=20)
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, lambda one: st.lists(one, max_size=3))


@given(arguments=st.dictionaries(TEXTS, VALUES, max_size=3))
@settings(max_examples=100, deadline=None)
def test_arguments_come_out_the_same_as_an_object_and_as_its_text(arguments: dict[str, Any]) -> None:
    as_object = Call(tool="t", arguments=arguments)
    as_text = Call.model_validate({"tool": "t", "arguments": json.dumps(arguments)})
    assert as_object == as_text
    problem = [Message(role="user", content="?")]
    shown = [turns(problem, [Done("", "", one, "r", True)], [BUILT_IN["python"]]) for one in (as_object, as_text)]
    assert shown[0] == shown[1]
    assert json.dumps(arguments, ensure_ascii=False) in shown[0][1]["content"]


@pytest.mark.parametrize("arguments", ["", "x", "[1]", "3", '{"a"', [1], None])
def test_arguments_that_are_no_object_are_none(arguments: Any) -> None:
    with pytest.raises(ValidationError):
        Call.model_validate({"tool": "t", "arguments": arguments})


def test_a_program_is_guided_without_a_bound_on_its_text() -> None:
    step = ActingConfig.model_validate({"tools": ["python", "calculator"]}).step
    sent = json.dumps(for_grammar(guide({}, step)))
    assert "Length" not in sent
    assert "pattern" not in sent
    code = 'x = "a\\n"\nprint(x)\n' * 200
    said = {"thought": "t" * 900, "action": {"tool": "python", "arguments": {"code": code}}}
    action = Step.model_validate(said).action
    assert isinstance(action, Call)
    assert action.arguments == {"code": code}
