"""What a round's scored trials lead to: the ratio, and what each recipe gained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.search import Scored, cost, decide, spent
from synthloop.config import Config
from synthloop.store import Run, write_json
from synthloop.trials import Trained, Trial

RECIPES = ("repair", "explore")


def make_run(root: Path, tokens: Sequence[dict[str, int]] = (), **generate: Any) -> Run:
    settings = {
        "name": "t",
        "student": {"model": "m"},
        "task": {"name": "word_problems"},
        "generate": {"recipes": [{"name": name} for name in RECIPES], **generate},
        "mix": {"policy": "adaptive", "max_synthetic_ratio": 1.0},
    }
    write_json(root / "config.resolved.json", Config.model_validate(settings).model_dump(mode="json"))
    run = Run(root)
    for round, counts in enumerate(tokens, start=1):
        write_json(run.stage(round, "generate").record_path, {"tokens_by_recipe": counts})
    return run


def scored(value: float, seed: int, right: int, recipe: str | None = None, n: int = 200) -> Scored:
    trial = Trial(axis="without" if recipe else "amount", value=value, seed=seed, recipe=recipe)
    trained = Trained(trial=trial, rows=10, synthetic_rows=5, tokens=100, steps=3, seconds=1.5)
    return Scored(trained, [1.0] * right + [0.0] * (n - right))


def test_a_ratio_that_is_clearly_better_is_taken(tmp_path: Path) -> None:
    rights = {0.0: 80, 0.5: 95, 1.0: 110, 2.0: 140}
    found = decide(make_run(tmp_path), 1, [scored(r, s, n + s) for r, n in rights.items() for s in (0, 1)])
    assert (found["ratio"], found["in_force"], found["changed"]) == (2.0, 1.0, True)
    assert len(found["trials"]) == 8
    assert found["trials"][0]["value"] == 0.4
    assert found["recipes"] is None


def test_where_there_is_less_than_the_ratio_in_force_all_there_is_stands_for_it(tmp_path: Path) -> None:
    rights = {0.0: 100, 0.25: 100, 0.6: 101}
    found = decide(make_run(tmp_path), 1, [scored(r, s, n + s) for r, n in rights.items() for s in (0, 1)])
    assert (found["ratio"], found["in_force"], found["changed"]) == (1.0, 1.0, False)
    assert found["reason"].endswith("(0.6, all there is, stands for 1 in force)")
    assert {one["ratio"] for one in found["effects"]} == {0.0, 0.25}


def test_all_there_is_stands_for_a_ratio_in_force_that_is_hardly_less(tmp_path: Path) -> None:
    rights = {0.0: 80, 0.5: 95, 1.05: 110}  # 1.0 itself was not tried beside 1.05
    found = decide(make_run(tmp_path), 1, [scored(r, s, n + s) for r, n in rights.items() for s in (0, 1)])
    assert (found["ratio"], found["changed"]) == (1.0, False)
    assert {one["ratio"] for one in found["effects"]} == {0.0, 0.5}


def test_each_recipe_is_measured_by_what_its_absence_costs(tmp_path: Path) -> None:
    """repair: 30 of 200 points for 3,000 tokens over two rounds; explore: none for 1,000."""
    run = make_run(
        tmp_path,
        [{"repair": 1000, "explore": 600}, {"repair": 2000, "explore": 400}],
        allocation="thompson",
    )
    trials = [scored(r, s, n + s) for r, n in {0.0: 80, 1.0: 130}.items() for s in (0, 1)]
    trials += [scored(1.0, s, 100 + s, "repair") for s in (0, 1)]
    trials += [scored(1.0, s, 130 + s, "explore") for s in (0, 1)]
    found = decide(run, 2, trials)["recipes"]
    assert found["gains"]["repair"]["gain"] == pytest.approx(0.15)
    assert found["gains"]["repair"]["tokens"] == 3000
    assert found["gains"]["repair"]["per_million"] == pytest.approx(50)
    assert found["gains"]["explore"]["gain"] == pytest.approx(0)
    assert found["shares"]["repair"] > 0.9
    assert sum(found["shares"].values()) == pytest.approx(1)


def test_a_recipe_of_which_nothing_was_kept_is_measured_as_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path, [{"repair": 1000, "explore": 600}], allocation="thompson")
    trials = [scored(r, s, n) for r, n in {0.0: 80, 1.0: 130}.items() for s in (0, 1)]
    trials += [scored(1.0, s, 100, "repair") for s in (0, 1)]
    assert decide(run, 1, trials)["recipes"]["gains"]["explore"]["gain"] == 0


def test_the_cost_is_counted_and_told(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_json(run.stage(1, "trials").record_path, {"seconds": 12.0})
    usage = {"requests": 4, "prompt_tokens": 30, "completion_tokens": 12, "scoring_seconds": 3.0}
    found = cost(run, 1, [scored(0.0, 0, 1), scored(1.0, 0, 1)], usage)
    assert found == {
        "trials": 2,
        "train_tokens": 200,
        "train_seconds": 12.0,
        "score_tokens": 42,
        "score_seconds": 3.0,
    }
    assert "2 trials: 12 s and 200 tokens of training rows" in spent(found)
