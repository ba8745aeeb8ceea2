"""Trials: which there are, and what each trains on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synthloop import sweep
from synthloop.config import Config
from synthloop.errors import UserError
from synthloop.mixing import Mix, MixOverride
from synthloop.records import Message, Row
from synthloop.store import Run, write_json
from synthloop.sweep import SweepPlan, numbers
from synthloop.trials import Trial, in_force, plan, reachable, read_trials
from train.sources import Sources
from train.trials import available, draw, trial_rows

PROMPT = (Message(role="user", content="x"),)
ADAPTIVE = Mix(policy="adaptive", unit="rows")


def rows(source: Any, number: int, round: int = 0) -> list[Row]:
    return [
        Row(id=f"{source}-{n}", source=source, messages=PROMPT, completion="y", round=round, num_tokens=10)
        for n in range(number)
    ]


def sources(real: int = 40, synthetic: int = 100, override: MixOverride | None = None) -> Sources:
    made = rows("synthetic", synthetic, round=1)
    recipes = {row.id: ("repair", "explore")[index % 2] for index, row in enumerate(made)}
    return Sources(rows("real", real), made, [], None, override, recipes, [])


def ids(trial: Trial, part: float = 1.0, **changes: Any) -> list[str]:
    return [row.id for row in trial_rows(trial, sources(**changes), ADAPTIVE, part, 0, 1)]


def test_what_is_out_of_reach_becomes_all_there_is() -> None:
    assert reachable([0, 0.25, 0.5, 1, 2, 4], 2.5) == [0, 0.25, 0.5, 1, 2, 2.5]
    assert reachable([0, 1, 2, 4], 2.1) == [0, 1, 2.1]  # 2 is all but the same
    assert reachable([0, 1, 2], 9.0) == [0, 1, 2]
    assert reachable([0, 1, 1, 0.5], 0.0) == [0.0]


def test_a_round_tries_every_ratio_and_the_one_in_force_with_every_seed() -> None:
    trials = list(plan(ADAPTIVE, 1.5, 3.0, ["explore", "repair"]))
    ratios = [0, 0.25, 0.5, 1, 1.5, 2, 3.0]
    assert {(one.value, one.seed) for one in trials if one.axis == "amount"} == {(r, s) for r in ratios for s in (0, 1)}
    left_out = [(one.value, one.recipe, one.seed) for one in trials if one.axis == "without"]
    assert left_out == [(3.0, "explore", 0), (3.0, "repair", 0), (3.0, "explore", 1), (3.0, "repair", 1)]
    assert len({one.name for one in trials}) == len(trials)


def test_a_trial_has_all_real_rows_and_its_ratio_of_synthetic_ones() -> None:
    for ratio in (0, 0.5, 2):
        found = ids(Trial(axis="amount", value=ratio, seed=0))
        assert sum(one.startswith("real") for one in found) == 40
        assert sum(one.startswith("synthetic") for one in found) == 40 * ratio


def test_within_a_seed_smaller_mixes_are_part_of_larger_ones_and_seeds_differ() -> None:
    small, large = (set(ids(Trial(axis="amount", value=ratio, seed=0), 0.5)) for ratio in (0.5, 2))
    assert small < large
    assert len(small) == 30
    assert set(ids(Trial(axis="amount", value=0.5, seed=1), 0.5)) != small
    assert ids(Trial(axis="amount", value=0.5, seed=0), 0.5) == ids(Trial(axis="amount", value=0.5, seed=0), 0.5)


def test_a_recipe_left_out_leaves_no_row() -> None:
    found = ids(Trial(axis="without", value=2.5, seed=0, recipe="repair"))
    assert sum(one.startswith("synthetic") for one in found) == 50
    assert all(int(one.removeprefix("synthetic-")) % 2 for one in found if one.startswith("synthetic"))


def test_shares_are_at_equal_size() -> None:
    for share in (0, 0.25, 1):
        found = ids(Trial(axis="share", value=share, seed=0))
        assert len(found) == 40
        assert sum(one.startswith("synthetic") for one in found) == 40 * share


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": "fixed", "synthetic_ratio": 2},
        {"policy": "accumulate"},
        {"policy": "replace"},
        {"policy": "schedule", "schedule": [1, 2]},
    ],
)
def test_a_sweep_of_a_run_with_another_policy_tries_the_ratios_asked_for(settings: dict[str, Any]) -> None:
    mix = Mix(unit="rows", **settings)
    found = trial_rows(Trial(axis="amount", value=0.5, seed=0), sources(), mix, 1.0, 0, 1)
    assert [sum(row.source == source for row in found) for source in ("real", "synthetic")] == [40, 20]


def test_num_rows_is_scaled_with_the_rows() -> None:
    mix = Mix(policy="adaptive", unit="rows", num_rows=200)
    trial = Trial(axis="amount", value=0.5, seed=0)
    assert len(trial_rows(trial, sources(), mix, 0.5, 0, 1)) == 100


def test_the_smaller_of_two_draws_is_within_the_larger() -> None:
    made = rows("real", 20)
    assert {row.id for row in draw(made, 0.25, 3)} < {row.id for row in draw(made, 0.5, 3)}
    assert len(draw(made, 0.26, 3)) == 6
    assert len(draw(made, 1.0, 3)) == 20


def test_the_loops_cap_limits_what_is_tried() -> None:
    assert available(sources(), ADAPTIVE) == 2.5
    assert available(sources(override=MixOverride(max_synthetic_ratio=0.5, reason="guard")), ADAPTIVE) == 0.5


def make_run(root: Path, **mix: Any) -> Run:
    settings = {
        "name": "t",
        "student": {"model": "m"},
        "task": {"name": "word_problems"},
        "generate": {"recipes": [{"name": "repair"}, {"name": "explore"}]},
        "mix": {"policy": "adaptive", **mix},
    }
    write_json(root / "config.resolved.json", Config.model_validate(settings).model_dump(mode="json"))
    return Run(root)


def test_the_ratio_in_force_is_the_last_one_found(tmp_path: Path) -> None:
    run = make_run(tmp_path, max_synthetic_ratio=0.75)
    assert in_force(run, 1) == 0.75
    for round, ratio in ((1, 2.0), (2, 4.0)):
        with run.stage(round, "search").write([]) as out:
            write_json(out.folder / "search.json", {"ratio": ratio})
    assert (in_force(run, 1), in_force(run, 2), in_force(run, 3)) == (0.75, 2.0, 4.0)


def test_trials_that_were_not_trained_are_missed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trained trial"):
        read_trials(tmp_path)


@pytest.mark.parametrize(
    ("option", "text", "most", "message"),
    [("--ratios", "0,x", 9.0, "expected numbers"), ("--shares", "0,1.5", 1.0, "between 0 and 1")],
)
def test_a_sweep_of_nonsense_is_refused(option: str, text: str, most: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        numbers(option, text, most)


def test_a_sweep_goes_on_with_the_same_options_only(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    asked = (tmp_path / "sweep", "0,1", "0,1", 2, 1000)
    with pytest.raises(UserError, match="no curated synthetic data"):
        sweep.prepare(run, None, *asked)
    write_json(run.stage(1, "curate").record_path, {})
    first = sweep.prepare(run, None, *asked)
    assert (first.round, first.ratios) == (1, (0.0, 1.0))
    assert sweep.prepare(run, 1, *asked) == first
    with pytest.raises(UserError, match="another folder"):
        sweep.prepare(run, 1, tmp_path / "sweep", "0,2", "0,1", 2, 1000)
    with pytest.raises(UserError, match="no curated synthetic data in round 2"):
        sweep.prepare(run, 2, *asked)


def test_a_sweep_tries_amounts_and_shares() -> None:
    asked = SweepPlan(round=1, ratios=(0, 1, 4), shares=(0, 1), seeds=2, max_real_rows=10, settings={})
    found = [(one.axis, one.value) for one in asked.plan(2.5).trials if one.seed == 0]
    assert found == [("amount", 0), ("amount", 1), ("amount", 2.5), ("share", 0), ("share", 1)]
    assert json.loads(asked.model_dump_json())["max_real_rows"] == 10
