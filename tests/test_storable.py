"""What comes from outside is made storable or refused, and nothing else of it is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from eval import judging, scoring
from generate.asking import Reply
from synthloop.records import Completion
from synthloop.storable import MAX_DEPTH, loads, storable

any_text = st.text(st.characters(codec=None))


def completion(text: str = "", **fields: Any) -> Completion:
    known = {"request_id": "r", "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1}
    return Completion(**{**known, "text": text, **fields})


@given(any_text)
def test_what_comes_out_has_bytes_and_keeps_its_length(text: str) -> None:
    assert len(storable(text).encode("utf-8").decode("utf-8")) == len(text)


@given(st.text())
def test_text_that_has_bytes_is_kept(text: str) -> None:
    assert storable(text) == text


def test_a_reply_with_half_a_surrogate_pair_can_be_written() -> None:
    reply = completion("cut \ud83d", error="\udc00")
    assert (reply.text, reply.error) == ("cut \ufffd", "\ufffd")
    assert Completion.model_validate_json(reply.model_dump_json()) == reply


def test_a_reply_holds_only_numbers_that_read_back_as_they_are() -> None:
    nan, inf = float("nan"), float("inf")
    reply = completion(logprob=-inf, prompt_logprobs=(None, nan, -1.5, inf))
    assert (reply.logprob, reply.prompt_logprobs) == (None, (None, None, -1.5, None))
    assert Completion.model_validate_json(reply.model_dump_json()) == reply
    assert completion(prompt_tokens=2**63 - 1).prompt_tokens == 2**63 - 1


@pytest.mark.parametrize("tokens", [-1, 2**63, 10**400])
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
def test_a_count_that_a_database_cannot_hold_is_refused(field: str, tokens: int) -> None:
    with pytest.raises(ValidationError, match=field):
        completion("", **{field: tokens})


REFUSED = {
    "empty": "",
    "blank": " \n",
    "cut": '{"value": "a',
    "prose": "I can't do that.",
    "nested lists": "[" * 100_000,
    "nested objects": '{"value":' * 100_000 + "1" + "}" * 100_000,
    "deeper than a record is written": '{"value": ' + "[" * 300 + "]" * 300 + "}",
    "long integer": '{"value": ' + "9" * 5_000 + "}",
    "not a number": '{"value": NaN}',
    "infinity": '{"value": -Infinity}',
    "overflow": '{"value": 1e999}',
}


class Anything(BaseModel):
    value: Any


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_json_that_cannot_be_kept_is_no_json_to_any_reader(text: str) -> None:
    with pytest.raises(ValueError):
        loads(text)
    assert Reply(completion(text)).read(Anything) is None
    assert judging.read(completion(text)) is None
    assert scoring.json_equal("1", text).value == 0


@pytest.mark.parametrize("text", ['{"value": 1} {}', '\ufeff{"value": 1}'])
def test_json_with_something_about_it_is_found_in_replies_alone(text: str) -> None:
    with pytest.raises(ValueError):
        loads(text)
    assert Reply(completion(text)).read(Anything) == Anything(value=1)


KEPT = {
    "escaped half of a pair": (
        r'{"value": "cut \ud83d", "\udc00": [["\ud800"]]}',
        {"\ufffd": [["\ufffd"]], "value": "cut \ufffd"},
    ),
    "escaped pair": (r'{"value": "\ud83d\ude00"}', {"value": "\U0001f600"}),
    "large integer": ('{"value": ' + "9" * 400 + "}", {"value": int("9" * 400)}),
    "duplicate keys": ('{"value": 1, "value": 2}', {"value": 2}),
    "as deep as allowed": ("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH, None),
}


@pytest.mark.parametrize(("text", "value"), KEPT.values(), ids=KEPT)
def test_what_is_read_can_be_written(text: str, value: Any) -> None:
    found = loads(f" {text}\n")
    assert value is None or found == value
    kept = Anything(value=found)
    assert Anything.model_validate_json(kept.model_dump_json()) == kept


def test_a_parsed_answer_can_be_written() -> None:
    score = scoring.json_equal(r'["\ud83d"]', r'So: ["\ud83d"]')
    assert score.correct
    assert score.model_dump_json()
    verdict = judging.read(completion(r'{"reason": "\ud83d", "correct": true}'))
    assert verdict is not None
    assert verdict.model_dump_json()


@settings(max_examples=25)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_of_storable_values_reads_as_json_does(value: Any) -> None:
    assert loads(json.dumps(value)) == value


def test_control_characters_pass_only_where_asked() -> None:
    assert loads('["a\tb"]', strict=False) == ["a\tb"]
    with pytest.raises(ValueError, match="control character"):
        loads('["a\tb"]')
