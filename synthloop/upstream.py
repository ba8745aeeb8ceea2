"""Which names and values upstream classes accept, read from the installed packages' sources without importing them.

`synthloop check` answers in under a second; importing TRL or vLLM alone takes five. The fields of a class are the
annotated names in its body and in its bases' bodies, which a parse of that file finds; `admits` holds a value against
an annotation.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from synthloop.annotations import admits, in_words, with_default
from synthloop.errors import did_you_mean
from synthloop.ranges import out_of_range

Kind = Literal["sft_config", "dpo_config", "lora_config", "engine_args", "sampling_params", "bitsandbytes_config"]


class _Class(NamedTuple):
    """Where a class is: `init` says that its names are those of `__init__`, not of annotated fields."""

    package: str
    file: str
    name: str
    init: bool = False


# Each with the bases that have fields of their own.
_CLASSES: dict[Kind, tuple[_Class, ...]] = {
    "sft_config": (
        _Class("trl", "trainer/sft_config.py", "SFTConfig"),
        _Class("trl", "trainer/base_config.py", "_BaseConfig"),
        _Class("transformers", "training_args.py", "TrainingArguments"),
    ),
    "dpo_config": (
        _Class("trl", "trainer/dpo_config.py", "DPOConfig"),
        _Class("trl", "trainer/base_config.py", "_BaseConfig"),
        _Class("transformers", "training_args.py", "TrainingArguments"),
    ),
    "lora_config": (
        _Class("peft", "tuners/lora/config.py", "LoraConfig"),
        _Class("peft", "config.py", "PeftConfig"),
        _Class("peft", "config.py", "PeftConfigMixin"),
    ),
    "engine_args": (_Class("vllm", "engine/arg_utils.py", "EngineArgs"),),
    "sampling_params": (_Class("vllm", "sampling_params.py", "SamplingParams"),),
    "bitsandbytes_config": (_Class("transformers", "utils/quantization_config.py", "BitsAndBytesConfig", init=True),),
}


# Values that upstream takes as text or as a member of these.
_ENUMS: dict[str, _Class] = {
    "OptimizerNames": _Class("transformers", "training_args.py", "OptimizerNames"),
    "SchedulerType": _Class("transformers", "trainer_utils.py", "SchedulerType"),
    "SaveStrategy": _Class("transformers", "trainer_utils.py", "SaveStrategy"),
}


# Annotations that are narrower than what the class itself takes; `lora.py` has the values of the second.
_WIDER = {"fsdp": "bool | str | list[str] | None", "init_lora_weights": "bool | str"}


@cache
def fields(kind: Kind) -> dict[str, ast.expr | None] | None:
    """Argument -> annotation of an upstream class, None where nothing is known; None where its package is missing."""
    found: dict[str, ast.expr | None] = {}
    for where in _CLASSES[kind]:
        path = source(where.package, where.file)
        if path is None:
            return None
        node = _class(path, where.name)
        found = {**(_init_fields(node) if where.init else _body_fields(node)), **found}
    wider = {name: ast.parse(text, mode="eval").body for name, text in _WIDER.items() if name in found}
    return {**found, **wider}


def accepted(kind: Kind) -> frozenset[str] | None:
    """The argument names of an upstream class; None where its package is not installed."""
    known = fields(kind)
    return None if known is None else frozenset(known)


def mistakes(kind: Kind, settings: Mapping[str, Any]) -> list[str]:
    """A sentence for each key that the upstream class does not have, and for each value it does not take."""
    known, name = fields(kind), f"{_CLASSES[kind][0].package}.{_CLASSES[kind][0].name}"
    if known is None:
        return []
    found = []
    for key, value in sorted(settings.items()):
        annotation = known.get(key)
        if key not in known:
            found.append(f"unknown key '{key}' of {name}. {did_you_mean(key, known)}".rstrip())
        elif annotation is not None and not admits(annotation, value, _options):
            found.append(f"'{key}' is {value!r}; {name} expects {_expected(annotation)}.")
        elif (expected := out_of_range(kind, key, settings)) is not None:
            found.append(f"'{key}' is {value!r}; expected {expected}.")
    return found


def _expected(annotation: ast.expr) -> str:
    names = [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)]
    options = next((found for name in names if (found := _options(name))), None)
    return f"one of {', '.join(options)}" if options else in_words(annotation)


@cache
def _options(name: str) -> tuple[str, ...] | None:
    """The values of an upstream enum that is written as text in a config; None for any other type."""
    where = _ENUMS.get(name)
    path = where and source(where.package, where.file)
    if not where or not path:
        return None
    body = _class(path, where.name).body
    values = [one.value for one in body if isinstance(one, ast.Assign)]
    return tuple(str(one.value) for one in values if isinstance(one, ast.Constant))


@cache
def lora_ranks() -> tuple[int, ...]:
    """The values vLLM allows for `max_lora_rank`, in order; empty where vLLM is not installed."""
    path = source("vllm", "config/lora.py")
    if path is None:
        return ()
    (statement,) = _statements(path, "MaxLoRARanks = ")
    assert isinstance(statement, ast.Assign), ast.dump(statement)
    assert isinstance(statement.value, ast.Subscript), ast.dump(statement)
    ranks: tuple[int, ...] = ast.literal_eval(statement.value.slice)
    return ranks


def source(package: str, file: str) -> Path | None:
    """A file of an installed package; `find_spec` of a top-level package imports nothing."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / file


def _class(path: Path, name: str) -> ast.ClassDef:
    (node,) = _statements(path, f"class {name}(", f"class {name}:")
    assert isinstance(node, ast.ClassDef), ast.dump(node)
    return node


def _statements(path: Path, *starts: str) -> list[ast.stmt]:
    """The top-level statement of `path` that starts with one of `starts`; only it is parsed, the files are long."""
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(starts))
    # A line that closes a bracket or a string may stand at the margin too, hence letters and decorators only.
    ends = (n for n, line in enumerate(lines[first + 1 :], first + 1) if line[:1].isalpha() or line[:1] in ("@", "_"))
    return ast.parse("\n".join(lines[first : next(ends, len(lines))])).body


def _body_fields(node: ast.ClassDef) -> dict[str, ast.expr | None]:
    """Annotated public names of a dataclass or a msgspec struct that its constructor takes.

    Where the default is None, or cannot be read here, the field also takes None, whatever its annotation says.
    """
    return {
        statement.target.id: with_default(statement.annotation, statement.value)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and not statement.target.id.startswith("_")
        and "ClassVar" not in ast.unparse(statement.annotation)
        and not _is_hidden(statement.value)
    }


def _is_hidden(value: ast.expr | None) -> bool:
    """Whether a field's default is `field(init=False)`."""
    return isinstance(value, ast.Call) and any(
        keyword.arg == "init" and isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        for keyword in value.keywords
    )


def _init_fields(node: ast.ClassDef) -> dict[str, ast.expr | None]:
    """Arguments of `__init__`; one without annotation is of the kind of its default, where that is a value."""
    (init,) = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    arguments = [*init.args.args, *init.args.kwonlyargs]
    positional = dict(zip(reversed(init.args.args), reversed(init.args.defaults), strict=False))
    defaults = {**positional, **dict(zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True))}
    return {one.arg: one.annotation or _kind_of(defaults.get(one)) for one in arguments if one.arg != "self"}


def _kind_of(default: ast.expr | None) -> ast.expr | None:
    if not isinstance(default, ast.Constant) or default.value is None:
        return None
    return ast.Name(type(default.value).__name__)
