"""What can be stored: text, numbers and JSON values that every file, database and hash of a run can hold.

A Python string can hold half of a surrogate pair, such as JSON's `"\\ud83d"` where a server cut an emoji in two. UTF-8
has no bytes for it, so that it would end the stage that writes it, long after it came in. It is replaced where text
enters: replies of engines, output of programs. `loads` does the same for JSON that a model wrote, and refuses numbers
and depths that could be read but not written.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

MAX_DEPTH = 100  # chosen, not measured; pydantic writes about 250 levels
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANK = re.compile(r"[ \t\n\r]*")


class TooDeep(ValueError):
    """JSON with lists or objects more than `MAX_DEPTH` deep."""


def storable(text: str) -> str:
    """`text` with each half of a surrogate pair replaced by U+FFFD; everything else stays as it is."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def loads(text: str, *, strict: bool = True) -> Any:
    """The JSON value that `text` is, its strings storable. For text that a model wrote.

    Args:
        strict: refuse control characters inside strings, as JSON does. Guided decoding (xgrammar) lets them through.

    Raises:
        ValueError: no JSON, one nested too deep, or a number beyond what can be written; nothing else is raised.
    """
    value, end = raw_decode(text, _blank_end(text, 0), strict=strict)
    if _blank_end(text, end) != len(text):
        raise ValueError(f"something follows the JSON value at character {end}")
    return value


def raw_decode(text: str, start: int = 0, *, strict: bool = True) -> tuple[Any, int]:
    """(value, end) of the JSON value that starts at `start`. Raises `ValueError` as `loads` does."""
    decoder = json.JSONDecoder(parse_constant=_finite, parse_float=_finite, strict=strict)
    try:
        value, end = decoder.raw_decode(text, start)
    except RecursionError as error:
        raise TooDeep("nested too deep") from error
    return _storable_value(value), end


def _blank_end(text: str, start: int) -> int:
    match = _BLANK.match(text, start)
    assert match is not None
    return match.end()


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a number that JSON can hold")
    return value


def _storable_value(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise TooDeep(f"more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return {storable(key): _storable_value(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list):
        return [_storable_value(one, depth + 1) for one in value]
    return _storable_text(value)


def _storable_text(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


StorableText = Annotated[str, BeforeValidator(_storable_text)]
"""The type of a record's field that holds text from outside."""

StorableCount = Annotated[int, Field(ge=0, lt=2**63)]
"""The type of a record's field that holds a count from outside: what SQLite takes as an integer."""

StorableLogprob = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""The type of a record's field that holds a log-probability (nats) from outside; None where it is not finite."""
