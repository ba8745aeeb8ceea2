"""Python with the base dependencies of pyproject.toml alone, whatever else is installed.

python -m tests.base_dependencies check configs/quickstart.yaml     synthloop, and no torch, transformers, vllm ...
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OURS = {"synthloop", "generate", "train", "eval", "tests"}


def base_modules() -> set[str]:
    """The top-level modules of the base dependencies and of what they depend on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, found = list(project["dependencies"]), set[str]()
    while waiting:
        requirement = waiting.pop()
        name = re.match(r"[\w.-]+", requirement)
        assert name is not None
        key = re.sub(r"[-_.]+", "-", name.group()).lower()
        if "extra ==" in requirement or key in found:
            continue
        found.add(key)
        try:
            waiting += importlib.metadata.requires(key) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
    owners = importlib.metadata.packages_distributions()
    return {
        module
        for module, distributions in owners.items()
        if any(re.sub(r"[-_.]+", "-", one).lower() in found for one in distributions)
    }


class Hiding:
    """A finder that finds only what is allowed."""

    def __init__(self, finder: Any, allowed: set[str]) -> None:
        self._finder, self._allowed = finder, allowed

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] not in self._allowed and not name.startswith("_sysconfigdata"):
            return None
        spec: ModuleSpec | None = self._finder.find_spec(name, path, target)
        return spec


def main() -> None:
    allowed = base_modules() | OURS | set(sys.stdlib_module_names)
    sys.meta_path[:] = [Hiding(finder, allowed) for finder in sys.meta_path]  # type: ignore[misc]
    from synthloop.cli import app

    app(sys.argv[1:])


if __name__ == "__main__":
    main()
