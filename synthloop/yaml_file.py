"""YAML files and `key.path=value` overrides to plain values; what is wrong in one is named with its line.

Beyond `yaml.safe_load`: `1e-4` is a number, as in YAML 1.2 and in Python; a key that stands twice in a mapping is
refused, as one of the two would be lost; so is a file that its own aliases blow up.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from synthloop.errors import UserError
from synthloop.files import SEAL

MAX_VALUES = 200_000
"""Values in one file, those of an alias counted wherever it stands; chosen, not measured."""


class _Loader(yaml.SafeLoader):
    """`SafeLoader`, and numbers such as 1e-4.

    With constructors of its own: lm-format-enforcer, which vLLM imports, makes dates text in `SafeLoader` itself
    (findings/lm_format_enforcer_yaml.sh).
    """

    yaml_constructors = yaml.SafeLoader.yaml_constructors.copy()


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d[\d_]*(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)


class _TextLoader(_Loader):
    """Every value is the text that is written, but for null: a file of texts in which 12:30 is no number."""


_TextLoader.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
    if (kept := [one for one in resolvers if one[0] in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")])
}


def read_yaml(path: Path, overrides: Sequence[str] = (), *, as_text: bool = False) -> dict[str, Any]:
    """The YAML mapping at `path` with `key.path=value` overrides applied (values are YAML; list items by index).

    With `as_text`, numbers, dates and Booleans are the text that is written.

    Raises:
        UserError: no such file, not UTF-8, not YAML, not a mapping, or an override that is not key=value or leads
            nowhere.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such config file. {_nearest(path)}")
    try:
        data = _load(path.read_text(encoding="utf-8-sig"), _TextLoader if as_text else _Loader)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8.") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid YAML. {error}") from error
    if not isinstance(data, dict):
        found = "an empty file" if data is None else f"a {type(data).__name__}"
        raise UserError(f"{path}: expected a YAML mapping (`key: value` lines), found {found}.")
    data.pop(SEAL, None)  # a run's own config.resolved.json is a config too
    for override in overrides:
        _apply(data, override)
    return data


def _nearest(path: Path) -> str:
    """A sentence naming the file most like `path` in its folder, or where configs are."""
    there = [one.name for one in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, there, n=1, cutoff=0.6)
    return f"Did you mean {path.parent / close[0]}?" if close else "Shipped ones are under configs/."


def _load(text: str, kind: type[_Loader] = _Loader) -> Any:
    """The value of a YAML text. Raises `ValueError` with one line that says what is wrong, and where."""
    try:
        loader = kind(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        tab = " YAML is indented with spaces, not tabs." if "'\\t'" in str(error.problem) else ""
        said = ", ".join(one for one in (error.context, error.problem) if one)
        raise ValueError(f"{where}{said}.{tab}") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("It is nested too deeply to be read.") from error


def _count(node: yaml.Node, counted: dict[int, int | None]) -> int:
    """How many values `node` stands for. Raises `ValueError` for a key that stands twice, and for too many values."""
    known = counted.get(id(node), 0)
    if known is None:
        raise ValueError(f"line {node.start_mark.line + 1}: an alias contains itself.")
    if known:
        return known
    counted[id(node)] = None
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated_keys(node)
        children = [one for pair in node.value for one in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    number = 1 + sum(_count(one, counted) for one in children)
    if number > MAX_VALUES:
        raise ValueError(f"line {node.start_mark.line + 1}: with its aliases it holds over {MAX_VALUES} values.")
    counted[id(node)] = number
    return number


def _refuse_repeated_keys(node: yaml.MappingNode) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        line = key.start_mark.line + 1
        if (key.tag, key.value) in lines:
            first = lines[key.tag, key.value]
            raise ValueError(f"line {line}: the key '{key.value}' stands twice (first in line {first}). Remove one.")
        lines[key.tag, key.value] = line


def _apply(data: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f"'{override}' is not an override. Expected key.path=value, for example rounds=5.")
    *parents, last = path.split(".")
    node: Any = data
    try:
        for key in parents:
            node = _step(node, key)
        if isinstance(node, dict):
            node[last] = _load(text)
        else:
            node[int(last)] = _load(text)
    except (TypeError, ValueError, IndexError) as error:
        why = str(error).rstrip(".")
        raise UserError(f"The override '{override}' leads nowhere: {why}.") from error


def _step(node: Any, key: str) -> Any:
    """What `key` leads to; a mapping that is not there yet is made. A role that is one engine is also its number 0."""
    if isinstance(node, list):
        return node[int(key)]
    if not isinstance(node, dict):
        raise TypeError(f"'{key}' is asked of the value {node!r}, which has no keys")
    if key.isdecimal() and key not in node and "model" in node:
        if int(key):
            raise TypeError(f"there is one engine, and number {key} is asked for (the first is 0)")
        return node
    if node.get(key) is None:
        node[key] = {}
    return node[key]
