"""Who plays a role, and with which settings."""

from __future__ import annotations

from typing import Any

import pytest

from generate.roles import student_config
from synthloop.config import Config, parse

STUDENT = {
    "model": "m/m",
    "tokenizer": "t/t",
    "chat_template_kwargs": {"enable_thinking": False},
    "args": {"max_model_len": 64},
}


@pytest.mark.parametrize(
    ("role", "kwargs", "args"),
    [
        ({}, {"enable_thinking": False}, {"max_model_len": 64}),
        ({"engine": "hf"}, {"enable_thinking": False}, {}),
        ({"engine": "hf", "chat_template_kwargs": {"a": 1}}, {"a": 1}, {}),
    ],
)
def test_a_student_that_plays_a_role_is_prompted_as_it_is_trained(
    role: dict[str, Any], kwargs: dict[str, Any], args: dict[str, Any]
) -> None:
    roles = {"teacher": {"model": "student", **role}}
    config = parse(Config, {"name": "x", "task": {"name": "word_problems"}, "student": STUDENT, "roles": roles}, "c")
    found = student_config(config, config.roles["teacher"][0])
    assert (found.model, found.tokenizer) == ("m/m", "t/t")
    assert (found.chat_template_kwargs, found.args) == (kwargs, args)
