"""What the files of a local model folder say, without loading it: its size, modules, tokenizer, chat template."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from synthloop.chat_template import read_object
from synthloop.errors import UserError

MAX_HEADER = 100_000_000
"""Bytes of a safetensors header, as its format limits it."""

NO_LINEAR = re.compile(r"emb|wte$|wpe$|(^|\.)(lm_head|output)$")
"""Names of modules with a matrix that PEFT's 'all-linear' leaves out: embeddings, and the head."""


def looks_local(model: str | Path) -> bool:
    """Whether a model name is meant as a folder: it exists, or its first part does, or it starts like a path."""
    path = Path(model)
    return (
        path.exists()
        or str(model).startswith((".", "/", "~"))
        or (len(path.parts) > 1 and Path(path.parts[0]).is_dir())
    )


def text_config(folder: Path) -> dict[str, Any]:
    """config.json, of a model of several kinds the part on text. Raises `UserError`."""
    config = read_object(folder / "config.json")
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def module_names(folder: Path) -> frozenset[str]:
    """The full names of the modules that have weights in safetensors files; empty where there are none to read."""
    try:
        index = read_object(folder / "model.safetensors.index.json").get("weight_map", {})
        weights = set(index) or {name for file in folder.glob("*.safetensors") for name in _header(file)}
    except (UserError, OSError, ValueError):  # what is broken about weights is said where they are loaded
        return frozenset()
    return frozenset(name.rpartition(".")[0] for name in weights if name != "__metadata__")


def linear_modules(folder: Path) -> frozenset[str]:
    """The full names of the linear layers without the head, PEFT's 'all-linear'; empty where they are not certain.

    The shapes of weights tell them, so experts, which are loaded under other names, and models of several kinds, of
    which a part may not be loaded, are left out.
    """
    try:
        if "text_config" in read_object(folder / "config.json"):
            return frozenset()
        tensors = [one for file in folder.glob("model*.safetensors") for one in _header(file).items()]
    except (UserError, OSError, ValueError):  # said where the model is loaded
        return frozenset()
    if any("experts" in name for name, _ in tensors):
        return frozenset()
    matrices = {name for name, one in tensors if name.endswith(".weight") and len(one["shape"]) == 2}
    return frozenset(name for one in matrices if not NO_LINEAR.search(name := one.removesuffix(".weight")))


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(min(size, MAX_HEADER)))
    return header


@cache
def load_tokenizer(folder: Path) -> Any:
    """The `tokenizers.Tokenizer` in a folder; None where the package, or its file tokenizer.json, is not there."""
    file = folder / "tokenizer.json"
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    return Tokenizer.from_file(str(file)) if file.is_file() else None
