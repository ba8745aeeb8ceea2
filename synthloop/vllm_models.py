"""Which kinds of models vLLM puts a LoRA adapter on, read from its sources without importing it (that takes seconds).

A kind is an entry of `architectures` in config.json; vLLM's registry names the class that plays it, and a class that
takes adapters has `SupportsLoRA` among its bases (vllm/model_executor/models/interfaces.py).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from synthloop import upstream
from synthloop.chat_template import read_object
from synthloop.errors import UserError

MODELS = "vllm.model_executor.models"
MARK, UNKNOWN = "SupportsLoRA", "?"
_ENTRY = re.compile(r'"(\w+)":\s*\(\s*"([\w.]+)",\s*"(\w+)",?\s*\)')


def architectures(folder: Path) -> list[str]:
    """The kinds that a model folder's config.json names; none where it cannot be read."""
    try:
        found = read_object(folder / "config.json").get("architectures")
    except UserError:  # said by `check_models.model_files`
        return []
    return [str(one) for one in found] if isinstance(found, list) else []


def takes_lora(folder: Path, args: Mapping[str, Any]) -> bool | None:
    """Whether vLLM puts an adapter on the model in `folder`; None where that is not known.

    Args:
        args: the engine's arguments; with a `model_impl` of its own another class may play the model.
    """
    found = _player(folder, args)
    return True if MARK in found else None if not found or UNKNOWN in found else False


def embeddings_with_lora(folder: Path, args: Mapping[str, Any]) -> frozenset[str] | None:
    """The names of the embeddings that vLLM puts an adapter on, beside linear layers; None where that is not known."""
    found = _player(folder, args)
    for node in found:
        for one in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "embedding_modules":
                return frozenset(ast.literal_eval(one.value)) if isinstance(one.value, ast.Dict) else None
    return None if not found or UNKNOWN in found else frozenset()


def _player(folder: Path, args: Mapping[str, Any]) -> tuple[ast.ClassDef | str, ...]:
    """`_classes` of what plays the model in `folder`; empty where that is not known."""
    classes = [_registry()[one] for one in architectures(folder) if one in _registry()]
    return () if not classes or args.get("model_impl", "auto") != "auto" else _classes(*classes[0])


@cache
def _registry() -> dict[str, tuple[str, str]]:
    """Kind -> (module, class); empty where vLLM is not installed."""
    path = _source(f"{MODELS}.registry")
    entries = _ENTRY.findall(path.read_text(encoding="utf-8")) if path else []
    return {
        kind: (module if module.startswith("vllm.") else f"{MODELS}.{module}", name) for kind, module, name in entries
    }


@cache
def _classes(module: str, name: str) -> tuple[ast.ClassDef | str, ...]:
    """A class of vLLM's and its bases, in the order in which attributes are looked up, as far as that is a tree.

    `MARK` stands for the base that says that adapters are taken, `UNKNOWN` for one that is not found; those of other
    packages are left out.
    """
    path = _source(module)
    if path is None or "." in name:
        return ()
    if name == MARK:
        return (MARK,)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return (node, *(one for base in node.bases for one in _classes(module, ast.unparse(base))))
        if isinstance(node, ast.ImportFrom):
            for one in node.names:
                if name == (one.asname or one.name):
                    return _classes(_absolute(module, path, node), one.name)
    return (UNKNOWN,)


def _absolute(module: str, path: Path, node: ast.ImportFrom) -> str:
    """The full name of the module that `node`, a statement in `module`, imports from."""
    own = [*module.split("."), ""] if path.name == "__init__.py" else module.split(".")
    return (
        ".".join([*own[: len(own) - node.level], *(node.module or "").split(".")]) if node.level else node.module or ""
    )


def _source(module: str) -> Path | None:
    package, _, rest = module.partition(".")
    if package != "vllm":
        return None
    for file in (f"{rest.replace('.', '/')}.py", f"{rest.replace('.', '/')}/__init__.py"):
        if (path := upstream.source(package, file)) is not None and path.is_file():
            return path
    return None
