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
    classes = [_registry()[one] for one in architectures(folder) if one in _registry()]
    if not classes or args.get("model_impl", "auto") != "auto":
        return None
    return _supports(*classes[0])


@cache
def _registry() -> dict[str, tuple[str, str]]:
    """Kind -> (module, class); empty where vLLM is not installed."""
    path = _source(f"{MODELS}.registry")
    entries = _ENTRY.findall(path.read_text(encoding="utf-8")) if path else []
    return {
        kind: (module if module.startswith("vllm.") else f"{MODELS}.{module}", name) for kind, module, name in entries
    }


@cache
def _supports(module: str, name: str) -> bool | None:
    """Whether `SupportsLoRA` is among the bases of a class, at any depth; None where its definition is not found.

    A class of another package is none of these.
    """
    path = _source(module)
    if path is None or "." in name:
        return False
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            found = [base == "SupportsLoRA" or _supports(module, base) for base in map(ast.unparse, node.bases)]
            return True if True in found else None if None in found else False
        if isinstance(node, ast.ImportFrom):
            for one in node.names:
                if name == (one.asname or one.name):
                    return _supports(_absolute(module, path, node), one.name)
    return None


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
