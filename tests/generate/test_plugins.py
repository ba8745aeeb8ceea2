"""The contract of recipes and filters: a new file in either folder is tested by being there."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from generate.context import Conversation, Reject
from generate.curation import FilterContext
from generate.driver import drive
from generate.roles import Engines, Roles
from generate.run import converse
from synthloop import plugins
from synthloop.config import RecipeRef
from synthloop.journal import Journal
from synthloop.records import Candidate
from tests.generate import rows, scripted
from tests.generate.runs import build_run
from tests.generate.sandboxed import skip_unless_confined


def example(kind: plugins.Kind, name: str) -> dict[str, Any]:
    """The config that the plugin's docstring shows for it, read as YAML."""
    about = plugins.about(kind, name)
    assert about.summary.endswith((".", "?"))
    assert len(about.summary) < 160, "one line"
    assert about.source, "the docstring names the source of the method"
    assert about.example, "the docstring has an example of its config"
    section, key = ("generate", "recipes") if kind == "recipe" else ("curate", "filters")
    shown: list[dict[str, Any]] = yaml.safe_load(about.example)[section][key]
    (own,) = (one for one in shown if one["name"] == name)
    return own


CONFINED = {"self_debug", "tool_use", "execute"}
"""Plugins that run model-written code, and refuse to where the machine cannot confine it."""


@pytest.mark.parametrize("name", plugins.names("recipe"))
def test_recipe(name: str, tmp_path: Path) -> None:
    if name in CONFINED:
        skip_unless_confined()
    module = plugins.load("recipe", name)
    assert issubclass(module.Config, BaseModel)
    assert module.Config.model_config["extra"] == "forbid"
    assert list(inspect.signature(module.run).parameters) == ["seed", "ctx"]
    assert getattr(module, "SEEDS", "any") in ("failures", "non_failures", "any", "train")

    # With and without a wrong answer to start from, it ends in candidates or refusals that say why.
    settings = example("recipe", name)
    asked = plugins.roles_of(plugins.configure("recipe", name, RecipeRef(**settings).settings)).values()
    roles_config = {role: scripted.ROLE for role in asked if role != "student"}
    run = build_run(tmp_path / "run", roles=roles_config, generate={"recipes": [settings]})
    seeds = [rows.seed(n, recipe=name, response=[None, "#### 99"][n % 2]) for n in range(4)]
    roles = Roles(run, 1)
    with Journal(run.journal_path, "1/generate") as journal, Engines(roles.all_members()) as engines:
        conversations: list[Conversation] = list(converse(run.config, roles, seeds, 1))
        outcomes, _ = drive(conversations, engines, journal)
    assert len(outcomes) == 4
    for outcome in (one for many in outcomes for one in (many if isinstance(many, list) else [many])):
        assert isinstance(outcome, Candidate | Reject)
        if isinstance(outcome, Candidate):
            assert outcome.lineage["requests"]
            assert outcome.lineage["prompts"]


@pytest.mark.parametrize("name", plugins.names("filter"))
def test_filter(name: str, tmp_path: Path) -> None:
    if name in CONFINED:
        skip_unless_confined()
    module = plugins.load("filter", name)
    assert issubclass(module.Config, BaseModel)
    assert module.Config.model_config["extra"] == "forbid"
    assert list(inspect.signature(module.check).parameters) == ["cfg", "batch", "ctx"]

    settings = {field: value for field, value in example("filter", name).items() if field != "name"}
    cfg = module.Config(**settings)
    asked = plugins.roles_of(cfg).values()
    roles_config = dict.fromkeys(asked, scripted.ROLE)
    ctx = FilterContext(build_run(tmp_path / "run", model="quickstart/student", roles=roles_config), 1)
    batch = [rows.candidate(n, completion=text) for n, text in enumerate(["#### 5", "", "####", "nonsense", "####5"])]
    decisions = module.check(cfg, batch, ctx)
    assert len(decisions) == len(batch)
    assert all(one.keep or one.reason for one in decisions)
    assert module.check(cfg, [], ctx) == []
    assert module.check(cfg, batch, ctx) == decisions
