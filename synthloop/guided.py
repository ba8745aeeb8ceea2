"""Guided replies, JSON of a schema: what is asked for, what of it goes into a grammar, and how the text is read.

A grammar holds the shape of a value and not all that a schema asks of it. vLLM's (xgrammar 0.2.7 and 0.2.8) has no
escapes in a string whose length or pattern is bounded, so no quote, backslash or line end; it refuses some keywords and
ignores others. So a grammar is made of the shape alone, and what was decoded is held against the whole schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from jsonschema import Draft202012Validator, SchemaError
from pydantic import BaseModel, ValidationError

from synthloop.errors import UserError
from synthloop.records import Completion
from synthloop.storable import loads, raw_decode

M = TypeVar("M", bound=BaseModel)

END_OF_THINKING = "</think>"
"""Ends the thinking of Qwen3, DeepSeek-R1, GLM and Nemotron; no special token, so engines leave it in the text."""

_ENDS = ("stop", "stop_token_ids", "ignore_eos", "min_tokens")
"""Sampling that would end a reply inside its JSON, or go on behind it."""

_SHAPE = ("type", "enum", "const", "required", "minItems", "maxItems", "$ref", "title", "description")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_SCHEMA = ("items", "additionalProperties")
_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "$defs", "definitions")
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)\n?[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
_OBJECT = re.compile(r'\{\s*"')
_SHOWN = 80  # characters


class Unreadable(ValueError):
    """A reply that is not the JSON asked for; the message says why, as 'the reply ...' goes on."""


def guide(sampling: Mapping[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """`sampling` for a reply that is JSON of `schema`, and ends where its JSON ends."""
    rest = {name: value for name, value in sampling.items() if name not in _ENDS}
    return {**rest, "structured_outputs": {"json": _json_schema(schema)}}


@lru_cache(maxsize=64)
def _json_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """Shared by all requests for it, which read it; pydantic takes half a millisecond to write one."""
    return schema.model_json_schema()


def for_grammar(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """`sampling` as an engine gets it: of a JSON schema in it, the `shape`. Raises `UserError` where it is none."""
    schema = _schema(sampling)
    if schema is None:
        return dict(sampling)
    _validator(json.dumps(schema))
    return {**sampling, "structured_outputs": {**sampling["structured_outputs"], "json": shape(schema)}}


def _schema(sampling: Mapping[str, Any]) -> Any:
    """The JSON schema that guides a reply, which may be written as text; None where there is none."""
    guides = sampling.get("structured_outputs")
    schema = guides.get("json") if isinstance(guides, Mapping) else None
    if not isinstance(schema, str):
        return schema
    try:
        return loads(schema)
    except ValueError:
        return None


def shape(schema: Any) -> Any:
    """A copy of a JSON schema that every value of it fits, of keywords that grammars hold alone.

    What bounds a text (length, pattern, format) is left out, and so is what compares values or names.
    """
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {name: schema[name] for name in _SHAPE if name in schema}
    # xgrammar takes 64-bit bounds; true and false are draft 4's.
    made |= {name: schema[name] for name in _NUMBERS if _is_bound(schema.get(name))}
    made |= {name: shape(schema[name]) for name in _SCHEMA if name in schema}
    for name in _SCHEMAS:
        if name in schema:
            made[name] = [shape(one) for one in schema[name]]
    for name in _NAMED:
        if name in schema:
            made[name] = {key: shape(one) for key, one in schema[name].items()}
    if "patternProperties" in schema:
        made["additionalProperties"] = True
    return made


def _is_bound(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63


def read(reply: Completion, schema: type[M]) -> M:
    """The reply as an instance of the `schema` it was asked for. Raises `Unreadable`."""
    value = _value(reply)
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Unreadable(f"does not fit its schema ({_at(first['loc'])}{first['msg']})") from error


def is_guided(sampling: Mapping[str, Any]) -> bool:
    """Whether a JSON schema guides the reply."""
    return _schema(sampling) is not None


def misfit(sampling: Mapping[str, Any], reply: Completion) -> str | None:
    """Why a reply is not what the JSON schema in `sampling` asks, whole; None where it is, or nothing was asked.

    A `pattern` in another dialect than Python's (`\\p{L}`) is not looked at, nor is what stands beside it.
    """
    schema = _schema(sampling)
    if schema is None or reply.finish_reason == "error":
        return None
    try:
        error = next(_validator(json.dumps(schema)).iter_errors(_value(reply)), None)
    except Unreadable as unreadable:
        return str(unreadable)
    except re.error:
        return None
    return None if error is None else f"does not fit its schema ({_at(error.absolute_path)}{error.message[:_SHOWN]})"


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    loaded = json.loads(schema)
    try:
        Draft202012Validator.check_schema(loaded)
    except SchemaError as error:
        raise UserError(
            f"sampling.structured_outputs.json is no JSON schema: {_at(error.path)}{error.message}"
        ) from error
    return Draft202012Validator(loaded)


def _at(path: Any) -> str:
    return f"{'.'.join(map(str, path))}: " if path else ""


def _value(reply: Completion) -> Any:
    try:
        return read_json(reply.text, cut_off=reply.truncated)
    except ValueError as error:
        if reply.truncated:
            raise Unreadable("was cut off (finish_reason: length)") from error
        if reply.error is not None:
            raise Unreadable(f"has no text ({reply.error[:_SHOWN]})") from error
        text = " ".join(reply.text.split())
        raise Unreadable(f"is not JSON ({text[:_SHOWN]!r})" if text else "has no text") from error


def read_json(text: str, *, cut_off: bool = False) -> Any:
    """The JSON value that `text` is or holds: all of it; what stands behind a model's thinking; the one object in a
    fence; the one object amid words.

    Control characters inside strings pass: guided decoding (xgrammar) allows them, though JSON does not.

    Args:
        cut_off: the text goes on, so that an object amid words need not be the last; only the whole text counts.

    Raises:
        ValueError: there is none, or several that differ.
    """
    try:
        return loads(text, strict=False)
    except ValueError:
        if cut_off:
            raise
    text = text.rpartition(END_OF_THINKING)[2]
    found = list(_fenced(text)) or list(_objects(text))
    if not found or any(one != found[0] for one in found):
        raise ValueError(f"{len(found)} JSON objects in the text")
    return found[0]


def _fenced(text: str) -> Iterator[Any]:
    for _, inside in _FENCE.findall(text):
        try:
            value = loads(inside, strict=False)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _objects(text: str) -> Iterator[Any]:
    """The outermost JSON objects in `text`. Raises `ValueError` at one that is broken: what is in it is no answer."""
    end = 0
    while (start := _OBJECT.search(text, end)) is not None:
        value, end = raw_decode(text, start.start(), strict=False)
        yield value
