"""What a pydantic model finds wrong with a user's values, as lines a person can act on; and what is left without it."""

from __future__ import annotations

import copy
import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from synthloop.errors import did_you_mean

T = TypeVar("T", bound=BaseModel)

MAX_PASSES = 20
"""What is taken out may uncover what stood behind it, a few times; chosen, not measured."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100
_short.maxlevel = 3


def mistakes(
    model: type[BaseModel], data: Mapping[str, Any], prefix: str = "", beside: Iterable[str] = ()
) -> list[str]:
    """One line for everything about `data` that `model` refuses; `prefix` is put before each path.

    Args:
        beside: keys that may stand beside those of `model` and are read by another, for the nearest known key.
    """
    found: list[str] = []
    try:
        model.model_validate(data)
    except ValidationError as error:
        found = describe(error, model, prefix, data, beside)
    numbers = _no_numbers(model, data, prefix) if isinstance(data, Mapping) else ()
    told = {line.partition(":")[0] for line in found}
    return [*found, *(line for path, line in numbers if f"'{path}'" not in told)]


def describe(
    error: ValidationError, model: type[BaseModel], prefix: str = "", data: Any = None, beside: Iterable[str] = ()
) -> list[str]:
    """One line a mistake: its path as the user wrote it, what was expected, what was found, the nearest known key."""
    lines: list[str] = []
    for item in error.errors():
        loc = written(item["loc"], data) if data is not None else list(item["loc"])
        path = (prefix + ".".join(map(str, loc))).rstrip(".")
        if item["type"] == "extra_forbidden":
            known = [*_fields(model, item["loc"][:-1]), *(beside if len(item["loc"]) == 1 else ())]
            lines.append(f"unknown key '{path}'. {did_you_mean(str(loc[-1]), known)}".rstrip())
        elif item["type"] == "value_error":  # a validator of ours: its message says what was found, a line a mistake
            message = item["msg"].removeprefix("Value error, ")
            lines += [f"'{path}': {line}" if path else line for line in message.splitlines()]
        elif item["type"] == "missing":
            lines.append(f"'{path}' is missing.")
        elif item["type"] == "invalid_key":
            lines.append(f"the key {item['input']!r} in '{path}' is not text. Put quotes around it.")
        else:
            lines.append(f"'{path}': {item['msg']}, found {_short.repr(item['input'])}.")
    return list(dict.fromkeys(lines))


def written(loc: Sequence[int | str], data: Any) -> list[int | str]:
    """`loc` of pydantic as a path in `data`: without the 0 of a role that is one engine, and the kind of a union."""
    path: list[int | str] = []
    for position, part in enumerate(loc):
        if isinstance(data, Mapping):
            if part in data:
                data = data[part]
            elif isinstance(part, int):
                continue
            else:
                return [*path, *loc[position:]]
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return path
        path.append(part)
    return path


def _fields(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """The field names of the model reached from `model` along `path` (list indices skipped)."""
    for part in path:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        annotation = field.annotation if field else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return list(model.model_fields)


def _no_numbers(model: type[BaseModel], data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """(path, line) for what pydantic takes for a number and nobody means as one: true, false, NaN, infinity."""
    for name, field in model.model_fields.items():
        value, kinds = data.get(name), _kinds(field.annotation)
        if isinstance(value, Mapping) and len(kinds) == 1 and issubclass(kind := next(iter(kinds)), BaseModel):
            yield from _no_numbers(kind, value, f"{prefix}{name}.")
        elif not kinds & {int, float} or Any in kinds:
            continue
        elif isinstance(value, bool) and bool not in kinds:
            yield f"{prefix}{name}", f"'{prefix}{name}' is {str(value).lower()}; expected a number."
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{prefix}{name}", f"'{prefix}{name}' is {value}; expected a finite number."


def _kinds(annotation: Any) -> set[Any]:
    """The types a value of `annotation` may have itself; those of what it holds are left out."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return {type(one) for one in arguments}
    if origin is None:
        return {annotation} if isinstance(annotation, type) else {Any}
    if isinstance(origin, type) and not arguments:
        return {origin}
    if getattr(origin, "__name__", "") in ("UnionType", "Union"):
        return set().union(*(_kinds(one) for one in arguments))
    return {origin}


def without_mistakes(
    model: type[T], data: Mapping[str, Any], placeholders: Mapping[str, Any]
) -> tuple[T, set[str], set[str]]:
    """What `model` makes of `data` once everything it refuses is taken out.

    Args:
        placeholders: values for the sections that must be there.

    Returns:
        the model; the sections that hold a placeholder; those that something was taken out of.
    """
    rest, missing, touched = copy.deepcopy(dict(data)), set[str](), set[str]()
    for _ in range(MAX_PASSES):
        try:
            return model.model_validate(rest), missing, touched | missing
        except ValidationError as error:
            paths = [(item, written(item["loc"], rest)) for item in error.errors()]
            if not all(path for _, path in paths):
                break  # refused as a whole (a secret is in it), so nothing more is said of any part
            for item, path in paths:
                touched.add(str(path[0]))
                if item["type"] == "missing" and len(path) == 1:
                    rest[str(path[0])] = placeholders[str(path[0])]
                    missing.add(str(path[0]))
                else:
                    _take_out(rest, path[:-1] if item["type"] == "missing" else path)
    return model.model_validate(placeholders), set(placeholders), set(model.model_fields)


def _take_out(data: Any, path: Sequence[int | str]) -> None:
    """Delete what `path` leads to, where it is still there; a list as a whole, so that no number shifts."""
    holder, key, node = data, path[0], data
    for part in path:
        if isinstance(node, dict):
            holder, key = node, part
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return
    del holder[key]
