"""Replies of OpenAI-compatible servers: what can be used of one is used."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloop.engines import _openai, complete_all, server
from synthloop.records import Completion
from tests.engines.conftest import ask
from tests.engines.odd_replies import OddServer

GUIDED = ask("?", structured_outputs={"json": {"type": "object"}})


def parsed(message: dict[str, Any], *, guided: bool = False, reason: Any = "stop", **whole: Any) -> Completion:
    reply = {"choices": [{"message": message, "finish_reason": reason}], **whole}
    return _openai.parse(GUIDED if guided else ask("?"), json.loads(json.dumps(reply)))


PIECES = st.lists(st.text(max_size=9), max_size=5)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda one: st.lists(one, max_size=2) | st.dictionaries(st.sampled_from(["prompt_tokens", "x"]), one, max_size=2),
)


@given(pieces=PIECES, thoughts=st.text(max_size=9), usage=ANY)
@settings(max_examples=150, deadline=None)
def test_a_text_is_the_same_whole_and_in_parts_whatever_the_usage(pieces: list[str], thoughts: str, usage: Any) -> None:
    whole = parsed({"content": "".join(pieces), "reasoning": thoughts}, usage=usage)
    parts: list[Any] = [{"type": "thinking", "thinking": [{"type": "text", "text": thoughts}]}]
    parts += [{"type": "text", "text": one} for one in pieces]
    in_parts = parsed({"content": parts, "reasoning_content": thoughts}, usage=usage)
    assert whole == in_parts
    assert whole.text == "".join(pieces)
    assert Completion.model_validate_json(whole.model_dump_json()) == whole


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2}, (5, 2)),
        ({"prompt_tokens": 5}, (5, 0)),
        ({"completion_tokens": 2}, (0, 2)),
        ({"prompt_tokens": "5", "completion_tokens": -1}, (0, 0)),
        ({"prompt_tokens": 7.0, "completion_tokens": True}, (7, 0)),
        ([5, 2], (0, 0)),
        (None, (0, 0)),
    ],
)
def test_token_counts_are_bookkeeping(usage: Any, counts: tuple[int, int]) -> None:
    reply = parsed({"content": "a"}, usage=usage)
    assert reply.uncounted == (0 in counts)
    assert (reply.text, (reply.prompt_tokens, reply.completion_tokens)) == ("a", counts)


@pytest.mark.parametrize(
    ("message", "guided", "text"),
    [
        ({"content": None, "reasoning": '{"a": 1}'}, True, '{"a": 1}'),
        ({"reasoning_content": 'So.\n```json\n{"a": 1}\n```'}, True, 'So.\n```json\n{"a": 1}\n```'),
        ({"content": [{"type": "thinking", "thinking": '{"a": 1}'}]}, True, '{"a": 1}'),
        ({"content": "\n\n", "reasoning": '{"a": 1}'}, True, '{"a": 1}'),
        ({"content": '{"b": 2}', "reasoning": '{"a": 1}'}, True, '{"b": 2}'),
        ({"content": ["a", {"type": "output_text", "text": "b"}]}, False, "ab"),
    ],
)
def test_thoughts_are_the_text_where_they_are_the_json_asked_for(
    message: dict[str, Any], guided: bool, text: str
) -> None:
    assert parsed(message, guided=guided).text == text


def test_thoughts_alone_are_no_empty_answer() -> None:
    for guided, thoughts in ((True, "I see"), (False, '{"a": 1}')):
        reply = parsed({"content": "", "reasoning": thoughts}, guided=guided)
        assert (reply.text, reply.finish_reason, reply.error) == ("", "error", _openai.THOUGHTS_ALONE)
    assert parsed({"content": "\n\n", "reasoning": "I see"}).error == _openai.THOUGHTS_ALONE
    cut_off = parsed({"content": None, "reasoning": "I see that"}, reason="length")
    assert (cut_off.text, cut_off.truncated, cut_off.error) == ("", True, None)


def test_what_a_model_says_when_it_refuses_is_kept_beside_an_empty_text() -> None:
    for message in (
        {"content": None, "refusal": "I can't."},
        {"content": [{"type": "refusal", "refusal": "I can't."}]},
    ):
        reply = parsed(message)
        assert (reply.text, reply.finish_reason, reply.error) == ("", "stop", "The model refused: I can't.")
    assert parsed({"content": "a", "refusal": "I can't."}).error is None


def test_parts_may_lack_what_we_do_not_need() -> None:
    parts = [{"type": "reasoning", "summary": []}, {"text": "It is "}, {"type": "output_text", "text": "4"}]
    assert parsed({"content": parts}).text == "It is 4"


@pytest.mark.parametrize(
    ("said", "reason"), [("end_turn", "stop"), ("eos", "stop"), ("MAX_TOKENS", "length"), ("content_filter", "error")]
)
def test_other_protocols_words_for_an_end(said: str, reason: str) -> None:
    assert parsed({"content": "a"}, reason=said).finish_reason == reason


def test_a_server_that_counts_no_tokens_is_asked_once_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    odd = OddServer()
    engine = server.open(server.Config(model="m", base_urls=(odd.base_url,)))
    try:
        with caplog.at_level(logging.WARNING):
            replies = complete_all(engine, [ask("no usage", id=str(n), seed=n) for n in range(9)])
    finally:
        engine.close()
        odd.close()
    assert {(one.text, one.prompt_tokens) for one in replies} == {("fine", 0)}
    assert len(odd.accepted) == 9
    assert caplog.text.count("does not say how many tokens") == 1
