"""What goes into a grammar, and what a guided reply is read as: examples, and the rules for any text."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from synthloop.errors import UserError
from synthloop.guided import Unreadable, for_grammar, guide, misfit, read, read_json, shape
from synthloop.records import Completion


class Note(BaseModel):
    """Has the bounds that grammars hold badly."""

    text: str = Field(max_length=40)
    lines: list[str] = Field(min_length=1, max_length=3)
    level: int = Field(ge=0, le=9)


def completion(text: str, reason: Any = "stop", **changes: Any) -> Completion:
    return Completion(request_id="a", text=text, finish_reason=reason, prompt_tokens=1, completion_tokens=1, **changes)


END = 256


@cache
def compiler() -> Any:
    """vLLM's, over a vocabulary of bytes."""
    import xgrammar

    tokens = xgrammar.TokenizerInfo([*(bytes([one]) for one in range(END)), b"<end>"], stop_token_ids=[END])
    return xgrammar.GrammarCompiler(tokens, max_threads=1)


def accepts(schema: Any, text: str) -> bool:
    """Whether vLLM's grammar of `schema` takes `text`, whole."""
    from xgrammar import GrammarMatcher

    matcher = GrammarMatcher(compiler().compile_json_schema(json.dumps(schema), any_whitespace=False))
    return bool(matcher.accept_string(text) and matcher.accept_token(END))


TEXTS = st.text(max_size=40) | st.text("\"\\\n\r\t`{}'é\u2028😀", max_size=40)


@given(text=TEXTS, lines=st.lists(TEXTS, min_size=1, max_size=3), level=st.integers(0, 9), escape=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_text_within_its_bound_can_be_written_and_is_read_as_it_was(
    text: str, lines: list[str], level: int, escape: bool
) -> None:
    note = {"text": text, "lines": lines, "level": level}
    written = json.dumps(note, ensure_ascii=escape)
    sent = for_grammar(guide({}, Note))["structured_outputs"]["json"]
    assert accepts(sent, written)
    assert read(completion(written), Note).model_dump() == note


SCHEMAS: list[tuple[dict[str, Any], Any]] = [
    ({"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^a"}, 'a"\n\\'),
    ({"type": "string", "format": "date-time"}, "2020-01-01T00:00:00"),
    ({"type": "integer", "multipleOf": 3, "minimum": 0, "maximum": 2**70}, 9),
    ({"type": "array", "uniqueItems": True, "contains": {"const": 1}, "items": {"type": "integer"}}, [1, 2]),
    ({"type": "object", "patternProperties": {"^a": {"type": "integer"}}}, {"ab": 1}),
    ({"type": "object", "propertyNames": {"pattern": "^a", "maxLength": 3}, "minProperties": 1}, {"ab": "x"}),
    ({"not": {"type": "string", "maxLength": 3}, "type": "string"}, "long enough"),
    ({"oneOf": [{"type": "string", "maxLength": 3}, {"type": "string", "minLength": 5}]}, 'a"'),
    ({"allOf": [{"type": "string", "maxLength": 9}, {"pattern": "a"}]}, "a\n"),
    (
        {"$ref": "#/$defs/word", "$defs": {"word": {"type": "string", "maxLength": 4}}, "type": "string"},
        "\\\n",
    ),
    ({"type": "object", "properties": {"pattern": {"type": "string", "maxLength": 4}}}, {"pattern": '"'}),
    ({"enum": ["maxLength", {"pattern": 3}]}, "maxLength"),
]


@pytest.mark.parametrize(("schema", "value"), SCHEMAS)
def test_what_fits_a_schema_fits_the_grammar_made_of_it(schema: dict[str, Any], value: Any) -> None:
    assert not list(Draft202012Validator(schema).iter_errors(value))
    assert accepts(shape(schema), json.dumps(value))
    assert misfit({"structured_outputs": {"json": schema}}, completion(json.dumps(value))) is None


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "maxLength": 3}, "long"),
        ({"type": "string", "pattern": "^a"}, "b"),
        ({"type": "integer", "multipleOf": 3}, 4),
        ({"not": {"type": "string"}}, "a"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 3}]}, 4),
        ({"if": {"type": "string"}, "then": {"maxLength": 1}}, "ab"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}, "maxLength": 1}, "ab"),
    ],
)
def test_what_a_grammar_lets_through_is_found_afterwards(schema: dict[str, Any], value: Any) -> None:
    sampling = {"structured_outputs": {"json": schema}}
    assert "does not fit its schema" in str(misfit(sampling, completion(json.dumps(value))))
    as_text = {"structured_outputs": {"json": json.dumps(schema)}}
    assert misfit(as_text, completion(json.dumps(value))) == misfit(sampling, completion(json.dumps(value)))


def test_only_json_schemas_are_touched() -> None:
    for sampling in ({}, {"structured_outputs": {"regex": "a"}}, {"structured_outputs": None, "seed": 1}):
        assert for_grammar(sampling) == sampling
        assert misfit(sampling, completion("x")) is None
    with pytest.raises(UserError, match=r"structured_outputs\.json is no JSON schema: type"):
        for_grammar({"structured_outputs": {"json": {"type": "strng"}}})


def test_a_guided_reply_ends_with_its_json_alone() -> None:
    given = {"stop": ["a"], "stop_token_ids": [1], "ignore_eos": True, "min_tokens": 3, "seed": 1}
    assert set(guide(given, Note)) == {"seed", "structured_outputs"}


REPLY = '{"right": true}'


@pytest.mark.parametrize(
    "text",
    [
        REPLY,
        f"\n {REPLY} \n",
        f"```json\n{REPLY}\n```",
        f"Here it is.\n\n  ~~~\n  {REPLY}\n  ~~~\nAnything else?",
        f"```\n{REPLY}",
        f"```json {REPLY} ```",
        f"My verdict: {REPLY}.",
        f"The set {{1, 2}} and \\frac{{1}}{{2}} count. {REPLY}",
        f"{REPLY} {REPLY}",
        f'<think>Not {{"right": false}}, surely.</think>\n{REPLY}',
        f'First {{"a": 1}}.\n```json\n{REPLY}\n```',
    ],
)
def test_a_reply_that_holds_one_object_is_that_object(text: str) -> None:
    assert read_json(text) == {"right": True}


@pytest.mark.parametrize(
    "text",
    ["", "Right.", '{"a": {"right": true}, "b', f'{REPLY} or {{"right": false}}', '{"a": 1} {"b', "```\n[1]\n```"],
)
def test_a_reply_that_holds_none_or_several_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        read_json(text)


@given(before=st.text("ab .\n", max_size=20), text=TEXTS, after=st.text("ab .\n", max_size=20), fenced=st.booleans())
@settings(max_examples=100, deadline=None)
def test_words_around_an_object_change_nothing_of_it(before: str, text: str, after: str, fenced: bool) -> None:
    value = {"text": text}
    written = json.dumps(value)
    inside = f"\n```json\n{written}\n```\n" if fenced else written
    assert read_json(f"{before}{inside}{after}") == value


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (completion("I think so"), "is not JSON ('I think so')"),
        (completion(" "), "has no text"),
        (completion("", error="The model refused: no"), "has no text (The model refused: no)"),
        (completion('{"text": "a', "length"), "was cut off (finish_reason: length)"),
        (completion(f"```\n{REPLY}\n```\nWait", "length"), "was cut off (finish_reason: length)"),
        (completion('{"text": "a", "lines": ["b"], "level": 12}'), "does not fit its schema (level: "),
        (completion('{"text": "' + "a" * 41 + '", "lines": ["b"], "level": 1}'), "does not fit its schema (text: "),
    ],
)
def test_why_a_reply_is_not_what_was_asked_for_is_told(reply: Completion, why: str) -> None:
    with pytest.raises(Unreadable) as unreadable:
        read(reply, Note)
    assert str(unreadable.value).startswith(why)


def test_a_reply_that_is_whole_counts_though_it_was_cut_off_behind_its_end() -> None:
    assert read(completion('{"text": "a", "lines": ["b"], "level": 1}   ', "length"), Note).level == 1
