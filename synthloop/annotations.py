"""Whether a value from a config is of the kind that a type annotation in a source file asks for.

Annotations are read, never evaluated. What is not known here (a class of a library) admits everything: upstream
decides when it is loaded.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from typing import Any

Options = Callable[[str], tuple[str, ...] | None]
"""The texts that stand for the members of an enum of this name; None where there is no such enum."""

_KINDS: dict[str, Callable[[Any], bool]] = {
    "None": lambda value: value is None,
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value),
    "str": lambda value: isinstance(value, str),
    **dict.fromkeys(("dict", "Dict", "Mapping"), lambda value: isinstance(value, Mapping)),
    **dict.fromkeys(
        ("list", "List", "tuple", "Tuple", "set", "Sequence"), lambda value: isinstance(value, list | tuple)
    ),
}


_WORDS = {"None": "null", "bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}


def admits(annotation: ast.expr, value: Any, options: Options) -> bool:
    """Whether `value`, as YAML gives it, is of the kind that `annotation` names."""
    allowed = _alternatives(annotation)
    if isinstance(value, str):
        for one in allowed:
            known = options(one.id) if isinstance(one, ast.Name) else None
            if known is not None:
                return value in known
    return any(_admits_one(one, value, options) for one in allowed)


def _alternatives(annotation: ast.expr) -> list[ast.expr]:
    """What a union is of; the annotation itself where it is none."""
    if isinstance(annotation, ast.BinOp):
        return _alternatives(annotation.left) + _alternatives(annotation.right)
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _alternatives(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        if annotation.value.id == "Optional":
            return [*_alternatives(annotation.slice), ast.Constant(None)]
        if annotation.value.id == "Union":
            return [one for part in inner for one in _alternatives(part)]
        if annotation.value.id == "Annotated":
            return _alternatives(inner[0])
    return [annotation]


def _admits_one(annotation: ast.expr, value: Any, options: Options) -> bool:
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return value is None
    if isinstance(annotation, ast.Name):
        return annotation.id not in _KINDS or _KINDS[annotation.id](value)
    if not isinstance(annotation, ast.Subscript) or not isinstance(annotation.value, ast.Name):
        return True
    name, inside = annotation.value.id, annotation.slice
    if name == "Literal":
        options_given = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        return any(isinstance(one, ast.Constant) and same(one.value, value) for one in options_given)
    if name not in _KINDS:
        return True
    if not _KINDS[name](value):
        # Upstream makes a list of a single one where it reads it (DPOConfig.loss_type, LoraConfig.target_parameters).
        return _KINDS[name]([]) and not isinstance(inside, ast.Tuple) and admits(inside, value, options)
    # Of what a container holds only the plain case is looked at: a list of one kind.
    return isinstance(value, Mapping) or isinstance(inside, ast.Tuple) or all(admits(inside, x, options) for x in value)


def same(one: Any, other: Any) -> bool:
    """Equal and of one type, so that 1 is not True."""
    return type(one) is type(other) and bool(one == other)


def with_default(annotation: ast.expr, default: ast.expr | None) -> ast.expr:
    """`annotation`, with None where the default may be None: it says so, or it is not written out here."""
    if isinstance(default, ast.Call):
        default = next((one.value for one in default.keywords if one.arg == "default"), default)
    if isinstance(default, ast.Constant | ast.UnaryOp) and not (
        isinstance(default, ast.Constant) and default.value is None
    ):
        return annotation
    return ast.BinOp(annotation, ast.BitOr(), ast.Constant(None))


def in_words(annotation: ast.expr) -> str:
    """The annotation in words, each alternative once."""
    return " or ".join(dict.fromkeys(_in_words(one) for one in _alternatives(annotation)))


def _in_words(annotation: ast.expr) -> str:
    text = ast.unparse(annotation)
    if text.startswith("Literal["):
        return " or ".join(text.removeprefix("Literal[").removesuffix("]").split(", "))
    return _WORDS.get(text, text)
