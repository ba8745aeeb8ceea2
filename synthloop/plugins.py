"""Plugins: a module whose file name is its config name; a dotted path names one outside the repo.

| kind      | folder              | module provides                                                        |
|-----------|---------------------|------------------------------------------------------------------------|
| task      | eval/tasks          | `Config`, `METRIC`, `load(cfg, split)`, `score(cfg, example, text)`    |
| recipe    | generate/recipes    | `Config`, `run(seed, ctx)`                                             |
| filter    | generate/filters    | `Config`, `check(cfg, batch, ctx)`                                     |
| engine    | synthloop/engines   | `Config`, `open(cfg, adapter)`                                         |
| objective | train/objectives    | `Config`, and the functions that `train/objectives/__init__.py` lists  |
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel

from synthloop.errors import UserError, did_you_mean

Kind = Literal["task", "recipe", "filter", "engine", "objective"]

PACKAGES: dict[Kind, str] = {
    "task": "eval.tasks",
    "recipe": "generate.recipes",
    "filter": "generate.filters",
    "engine": "synthloop.engines",
    "objective": "train.objectives",
}

REQUIRED: dict[Kind, tuple[str, ...]] = {
    "task": ("Config", "METRIC", "load", "score"),
    "recipe": ("Config", "run"),
    "filter": ("Config", "check"),
    "engine": ("Config", "open"),
    "objective": ("Config", "read", "build_args", "prepare", "show", "build_trainer"),
}


SEEDS = ("any", "failures", "non_failures", "train")
"""What a recipe may say it starts from; `generate/seeds.py` has what each means."""

RoleName = Annotated[str, "role"]
"""The type of a field of a plugin's `Config` that names a role it asks; `synthloop check` sees that it is there."""

Untracked = "untracked"
"""Marks a field, of a section or of a plugin's `Config`, that may change in a run: `Annotated[int, Untracked]`.

It says where something is or how fast it goes, not what comes out. A field without the mark may not change."""

Arguments = Annotated[dict[str, Any], "arguments"]
"""The type of a field whose dict goes to a library as it is; of its keys those in HARDWARE may change in a run."""

HARDWARE = frozenset(
    {
        # vLLM
        "gpu_memory_utilization",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "distributed_executor_backend",
        "max_num_seqs",
        "max_num_batched_tokens",
        "enable_prefix_caching",
        "enforce_eager",
        "performance_mode",
        # TRL
        "dataloader_num_workers",
        "per_device_eval_batch_size",  # the loop evaluates with an engine of its own
    }
)
"""Arguments of libraries by which a run is fitted to a machine. What changes the rows of a training step
(`per_device_train_batch_size`) or the kernels' results by design (`dtype`, `attn_implementation`) is not among them."""


def roles_of(settings: BaseModel) -> dict[str, str]:
    """Field -> role, for every field of a plugin's `Config` that is a `RoleName`."""
    fields = type(settings).model_fields
    return {name: getattr(settings, name) for name, field in fields.items() if "role" in field.metadata}


def tracked(model: type[BaseModel], plain: dict[str, Any]) -> dict[str, Any]:
    """`plain`, settings read by `model`, without what may change in a run."""
    kept = {}
    for name, value in plain.items():
        marks = model.model_fields[name].metadata if name in model.model_fields else []
        if "arguments" in marks and isinstance(value, dict):
            value = {key: one for key, one in value.items() if key not in HARDWARE}
        if Untracked not in marks:
            kept[name] = value
    return kept


def paths_of(settings: BaseModel) -> dict[str, Path]:
    """Field -> path, for every field of a plugin's `Config` that holds one."""
    return {name: value for name, value in settings if isinstance(value, Path)}


SOURCE = re.compile(r"arXiv:\d{4}\.\d{4,5}|https?://[^\s),;]+")
"""How a docstring names the source of its method."""

SECTION: dict[Kind, str] = {"recipe": "generate", "filter": "curate"}
"""The config section that a plugin's example shows."""


class About(NamedTuple):
    """What a recipe or filter says of itself: one line, the source of its method, and its config as YAML."""

    summary: str
    source: str | None
    example: str | None


def about(kind: Kind, name: str) -> About:
    """What the docstring of a shipped recipe or filter says; the module is not imported."""
    folder = importlib.util.find_spec(PACKAGES[kind])
    assert folder is not None, kind
    assert folder.submodule_search_locations, kind
    path = Path(next(iter(folder.submodule_search_locations))) / f"{name}.py"
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    source = SOURCE.search(doc)
    example = re.search(rf"^    ({SECTION[kind]}:.*(?:\n     .*)*)", doc, re.MULTILINE)
    return About(
        summary=" ".join(doc.partition("\n\n")[0].split()),
        source=source.group().rstrip(".") if source else None,
        example=textwrap.dedent(f"    {example.group(1)}") if example else None,
    )


def refuse_shadows() -> None:
    """Raise `UserError` where a module on PYTHONPATH stands in front of one of our packages; nothing is imported."""
    ours = Path(__file__).parents[1]
    for name in sorted({package.partition(".")[0] for package in PACKAGES.values()}):
        found = importlib.util.find_spec(name)
        assert found is not None, name
        place = found.origin or next(iter(found.submodule_search_locations or ()))
        if ours not in Path(place).parents:
            raise UserError(
                f"{place} stands in front of synthloop's own package '{name}'. Keep plugins in a folder without "
                f"a module of that name, and take the other folder off PYTHONPATH."
            )


def names(kind: Kind) -> list[str]:
    """The plugins of `kind` that ship with the project, sorted; nothing is imported but their package."""
    spec = importlib.util.find_spec(PACKAGES[kind])
    assert spec is not None, PACKAGES[kind]
    assert spec.submodule_search_locations, PACKAGES[kind]
    return sorted(
        path.stem
        for folder in spec.submodule_search_locations
        for path in Path(folder).glob("*.py")
        if not path.stem.startswith("_")
    )


def load(kind: Kind, name: str) -> ModuleType:
    """The plugin's module: `name` is a file name in the kind's folder or a dotted path.

    Raises:
        UserError: there is no such plugin, it fails to import, or it lacks a name its kind must provide.
    """
    if name.startswith(".") or ("." not in name and name not in names(kind)):
        raise UserError(f"Unknown {kind} '{name}'. {did_you_mean(name, names(kind))}")
    path = name if "." in name else f"{PACKAGES[kind]}.{name}"
    try:
        module = importlib.import_module(path)
    except ImportError as error:
        raise UserError(
            f"The {kind} '{name}' cannot be imported: {error}. A dotted path must be on PYTHONPATH."
        ) from error
    except (Exception, SystemExit) as error:  # a plugin's module is the user's code and may raise anything
        raise UserError(
            f"The {kind} '{name}' fails while {path} is imported: {type(error).__name__}: {error}"
        ) from error
    missing = [attribute for attribute in REQUIRED[kind] if not hasattr(module, attribute)]
    if missing:
        raise UserError(f"The {kind} '{name}' ({module.__file__}) lacks {', '.join(missing)}.")
    if not (isinstance(module.Config, type) and issubclass(module.Config, BaseModel)):
        raise UserError(
            f"The {kind} '{name}' ({module.__file__}) has a Config that is no class of pydantic's BaseModel."
        )
    if kind == "recipe" and (seeds := getattr(module, "SEEDS", "any")) not in SEEDS:
        raise UserError(f"The recipe '{name}' has SEEDS = {seeds!r}; expected one of {', '.join(SEEDS)}.")
    return module


def stage_module(path: str) -> ModuleType:
    """A module of a stage by its name, for what `check` has a stage do; the loop starts stages as processes."""
    return importlib.import_module(path)


def configure(kind: Kind, name: str, settings: dict[str, Any]) -> Any:
    """The plugin's own `Config`, built from the settings beside its name. Raises `pydantic.ValidationError`."""
    return load(kind, name).Config(**settings)
