"""The layering of docs/architecture.md, read off the imports of every module."""

import ast
import importlib.metadata
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("generate", "train", "eval")
HEAVY = ("torch", "vllm", "trl", "wandb", "transformers", "peft", "datasets", "accelerate", "bitsandbytes")
SUBCLASSES = ("train/callbacks.py", "synthloop/engines/_transformers.py")
"""Modules that extend a class of a heavy package, and so are themselves imported inside functions only."""
MODULES = [path for package in ("synthloop", *STAGES) for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_stage_imports_synthloop_and_itself_only(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    found = {name.split(".")[0] for name in imports(path)} & set(STAGES)
    assert found <= {own}, f"{relative(path)} imports {found - {own}}"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_heavy_packages_are_imported_where_they_are_needed_not_at_the_top(path: Path) -> None:
    names = imports(path, top_level_only=True)
    if relative(path) not in SUBCLASSES:
        found = {name.split(".")[0] for name in names} & set(HEAVY)
        assert not found, f"{relative(path)} imports {found} at the top"
    subclasses = {name.removesuffix(".py").replace("/", ".") for name in SUBCLASSES}
    assert not names & subclasses, f"{relative(path)} imports {names & subclasses} at the top"


def calls(path: Path) -> set[str]:
    """What a module calls, as written: 'print', 'subprocess.run'."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize(
    ("names", "owners"),
    [
        # Stages are started in child.py; the others start vLLM, nvidia-smi, a confined program and git.
        (
            {f"subprocess.{name}" for name in ("Popen", "run", "call", "check_call", "check_output")},
            {"synthloop/child.py", "synthloop/engines/_managed_server.py", "synthloop/launch.py"}
            | {"synthloop/provenance.py", "generate/sandbox.py"},
        ),
        # Text for people goes through screen.py; the others speak to the loop and to the sandbox.
        ({"print"}, {"synthloop/screen.py", "synthloop/progress.py", "generate/_probe.py"}),
    ],
    ids=["children", "text"],
)
def test_one_place_starts_stages_and_one_shows_text(names: set[str], owners: set[str]) -> None:
    assert {relative(path) for path in MODULES if calls(path) & names} == owners


def test_no_module_shadows_the_standard_library_or_a_dependency() -> None:
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    top = {path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert not (top - {"synthloop", "tests", *STAGES}), "a package that pyproject.toml does not list"
    ours = set(importlib.metadata.packages_distributions()) & {"synthloop", *STAGES}
    assert not top & (taken - ours), f"{top & (taken - ours)} shadow installed packages"
    banned = {"utils", "helpers", "common", "manager"}
    assert not [relative(path) for path in MODULES if path.stem in banned]


def test_every_package_is_listed_for_installation() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in MODULES:
        package = ".".join(path.relative_to(ROOT).parent.parts)
        assert f'"{package}"' in text, f"{package} is not in [tool.setuptools] packages"
