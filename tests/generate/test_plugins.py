"""The contract of recipes and filters: a new file in either folder is tested by being there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from generate.context import Conversation, Reject
from generate.curation import FilterContext
from generate.driver import drive
from generate.roles import Engines, Roles
from generate.run import converse
from synthloop import plugins
from synthloop.journal import Journal
from synthloop.records import Candidate
from tests.generate import rows
from tests.generate.runs import build_run

SOURCE = re.compile(r"arXiv:\d{4}\.\d{4,5}|https?://")


@pytest.mark.parametrize("name", plugins.names("recipe"))
def test_recipe(name: str, tmp_path: Path) -> None:
    module = plugins.load("recipe", name)
    assert issubclass(module.Config, BaseModel)
    assert module.Config.model_config["extra"] == "forbid"
    assert list(inspect.signature(module.run).parameters) == ["seed", "ctx"]
    assert getattr(module, "SEEDS", "any") in ("failures", "non_failures", "any")
    assert SOURCE.search(str(module.__doc__)), "the docstring names the source of the method"
    assert f"name: {name}" in str(module.__doc__), "the docstring has an example of its config"

    # With and without a wrong answer to start from, it ends in candidates or refusals that say why.
    run = build_run(tmp_path / "run", generate={"recipes": [{"name": name}]})
    seeds = [rows.seed(n, recipe=name, response=[None, "#### 99"][n % 2]) for n in range(4)]
    roles = Roles(run, 1)
    with Journal(run.journal_path, "1/generate") as journal, Engines(roles.all_members()) as engines:
        conversations: list[Conversation] = list(converse(run.config, roles, seeds, 1))
        outcomes, _ = drive(conversations, engines, journal)
    assert len(outcomes) == 4
    for outcome in outcomes:
        assert isinstance(outcome, Candidate | Reject)
        if isinstance(outcome, Candidate):
            assert outcome.lineage["requests"]
            assert outcome.lineage["prompts"]


@pytest.mark.parametrize("name", plugins.names("filter"))
def test_filter(name: str, tmp_path: Path) -> None:
    module = plugins.load("filter", name)
    assert issubclass(module.Config, BaseModel)
    assert module.Config.model_config["extra"] == "forbid"
    assert list(inspect.signature(module.check).parameters) == ["cfg", "batch", "ctx"]
    assert SOURCE.search(str(module.__doc__)), "the docstring names the source of the method"
    assert f"name: {name}" in str(module.__doc__), "the docstring has an example of its config"

    ctx = FilterContext(build_run(tmp_path / "run"), 1)
    batch = [rows.candidate(n, completion=text) for n, text in enumerate(["#### 5", "", "####", "nonsense", "####5"])]
    decisions = module.check(module.Config(), batch, ctx)
    assert len(decisions) == len(batch)
    assert all(one.keep or one.reason for one in decisions)
    assert module.check(module.Config(), [], ctx) == []
    assert module.check(module.Config(), batch, ctx) == decisions
