"""Every recipe and every filter, through real vLLM on CPU, as its own docstring configures it.

The quickstart models cannot follow these prompts. Guided decoding makes their replies well formed: JSON where a
recipe asks for a schema, a sentence that ends in an answer elsewhere. What it then keeps or refuses is its own doing.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from typing import Any

import pytest

from generate.curation import FilterContext
from synthloop import plugins
from synthloop.config import RecipeRef
from synthloop.records import Candidate, Rejection, Seed
from synthloop.store import Run, read_rows
from tests.generate.runs import build_run
from tests.generate.sandboxed import can_confine, skip_unless_confined
from tests.generate.test_plugins import CONFINED, example
from tests.stand_ins import CONTEXT, ROOT, long_context_copies

SENTENCE = "[A-Z][a-z]{2,7} has [1-9] [a-z]{3,7} and [1-9] [a-z]{3,7}\\. #### [1-3]"
QUOTE = "6"
"""The token of a quotation mark, which these models would seldom write: without it no text of guided JSON ends."""
NUM_SEEDS = 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose stage `generate` played all recipes."""
    root = tmp_path_factory.mktemp("run")
    student, teacher = long_context_copies(root / "models")
    args = {"dtype": "float32", "max_model_len": CONTEXT}
    sampling = {
        **{"temperature": 0.7, "max_tokens": 500, "structured_outputs": {"regex": SENTENCE}},
        "logit_bias": {QUOTE: 10.5},
    }
    role = {"engine": "vllm_offline", "model": str(teacher), "args": args, "sampling": sampling}
    names = [name for name in plugins.names("recipe") if name not in CONFINED or can_confine()]
    settings = [{**example("recipe", name), "share": 1} for name in names]
    run = build_run(
        root / "run",
        student={"model": str(student), "args": args, "sampling": sampling},
        roles={name: role for name in ("teacher", *asked(settings)) if name != "student"},
        generate={"recipes": settings, "num_seeds": NUM_SEEDS * len(names), "max_depth": 2},
    )
    command = [sys.executable, "-m", "generate.run", "--run", str(run.root), "--round", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


def asked(settings: list[dict[str, Any]]) -> set[str]:
    """The roles that recipes ask for."""
    refs = [RecipeRef(**one) for one in settings]
    return {
        role for ref in refs for role in plugins.roles_of(plugins.configure("recipe", ref.name, ref.settings)).values()
    }


def by_recipe(run: Run) -> dict[str, tuple[list[Candidate], list[Rejection]]]:
    found: dict[str, tuple[list[Candidate], list[Rejection]]] = defaultdict(lambda: ([], []))
    for one in read_rows(run.round_dir(1) / "candidates.jsonl", Candidate):
        found[one.recipe][0].append(one)
    for refused in read_rows(run.round_dir(1) / "recipe_rejected.jsonl", Rejection):
        found[refused.recipe][1].append(refused)
    return found


@pytest.mark.parametrize("name", plugins.names("recipe"))
def test_recipe(run: Run, name: str) -> None:
    if name in CONFINED:
        skip_unless_confined()
    seeds = [one for one in read_rows(run.round_dir(1) / "seeds.jsonl", Seed) if one.recipe == name]
    assert len(seeds) == NUM_SEEDS
    candidates, rejections = by_recipe(run)[name]
    told = [one.reason for one in rejections]
    assert {one.seed_id for one in [*candidates, *rejections]} == {one.id for one in seeds}
    assert not [reason for reason in told if reason.startswith(("engine error", "malformed"))], told
    assert all(one.lineage["requests"] and one.completion for one in candidates)


@pytest.fixture(scope="module")
def batch(run: Run) -> list[Candidate]:
    """One candidate of each recipe that made one."""
    return [candidates[0] for candidates, _ in by_recipe(run).values() if candidates]


@pytest.fixture(scope="module")
def filters(run: Run) -> Any:
    with FilterContext(run, 1) as ctx:
        yield ctx


@pytest.mark.parametrize("name", plugins.names("filter"))
def test_filter(filters: FilterContext, batch: list[Candidate], name: str) -> None:
    if name in CONFINED:
        skip_unless_confined()
    settings = {key: value for key, value in example("filter", name).items() if key != "name"}
    module = plugins.load("filter", name)
    role = {"role": "teacher"} if "role" in module.Config.model_fields else {}
    decisions = module.check(module.Config(**settings | role), batch, filters)
    assert len(decisions) == len(batch) > 7
    told = [one.reason or "" for one in decisions]
    assert not [reason for reason in told if reason.startswith(("engine error", "malformed"))], told
