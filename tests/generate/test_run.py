"""The stages as a whole: files, records, resume, bad input; once over real vLLM with a model that writes garbage."""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from generate import curate
from generate import run as generate_run
from synthloop.errors import UserError
from synthloop.records import Candidate, Failure, Rejection, Seed
from synthloop.store import Run, read_json, read_rows, write_json, write_rows
from tests.generate.runs import build_run
from tests.generate.scripted import Killed, Log

FILES = ("seeds.jsonl", "candidates.jsonl", "recipe_rejected.jsonl", "curated.jsonl", "rejected.jsonl", "funnel.json")


@pytest.fixture(autouse=True)
def clear_log() -> None:
    Log.clear()


def run_round(run: Run, round: int = 1) -> None:
    arguments = argparse.Namespace(run=run.root, round=round)
    generate_run.main(arguments)
    curate.main(arguments)


def contents(run: Run) -> dict[str, bytes]:
    return {name: (run.round_dir(1) / name).read_bytes() for name in FILES}


def test_a_round_is_complete_and_counted(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    run_round(run)
    record = run.stage(1, "generate").record()
    assert (record["candidates"], record["rejected"], record["requests"]) == (24, 0, 120)
    assert (record["prompt_tokens"], record["completion_tokens"], record["truncated"]) == (840, 360, 0)
    assert run.stage(1, "seed").record()["failures"] == 6
    seeds = read_rows(run.round_dir(1) / "seeds.jsonl", Seed)
    candidates = read_rows(run.round_dir(1) / "candidates.jsonl", Candidate)
    assert [one.seed_id for one in candidates] == [seed.id for seed in seeds]
    assert read_json(run.round_dir(1) / "funnel.json")["kept"] == 24


@pytest.mark.parametrize("die_after", [1, 50, 110])
def test_a_killed_stage_ends_byte_identical_and_asks_nothing_twice(tmp_path: Path, die_after: int) -> None:
    whole, killed = build_run(tmp_path / "whole"), build_run(tmp_path / "killed")
    run_round(whole)
    scripted = {"engine": "tests.generate.scripted", "model": "a"}
    build_run(tmp_path / "killed", roles={"teacher": {**scripted, "args": {"die_after": die_after}}})
    Log.clear()
    with pytest.raises(Killed):
        run_round(Run(tmp_path / "killed"))
    assert not killed.stage(1, "generate").is_complete
    build_run(tmp_path / "killed")
    run_round(killed)
    assert contents(killed) == contents(whole)
    requests = [request.id for _, request in Log.asked]
    record = killed.stage(1, "generate").record()
    assert record["journal_hits"] + record["asked"] == record["requests"] == 120
    assert record["journal_hits"] >= die_after
    assert len(set(requests)) == 120


OWN_RECIPE = '''
"""Two requests a sample, one after the other."""
from pydantic import BaseModel


class Config(BaseModel, extra="forbid"):
    shout: bool = False


def run(seed, ctx):
    problem = yield ctx.ask("teacher", "variation.jinja")
    answer = yield ctx.ask("teacher", "solve.jinja", prompt=problem)
    return ctx.candidate(problem.upper() if ctx.config.shout else problem, answer)
'''


def test_a_recipe_outside_the_repo_runs_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere" / "mine").mkdir(parents=True)
    (tmp_path / "elsewhere" / "mine" / "shouting.py").write_text(OWN_RECIPE)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    settings: dict[str, Any] = {
        "generate": {"recipes": [{"name": "mine.shouting", "shout": True}]},
        "curate": {"filters": [{"name": "novelty"}]},
    }
    whole = build_run(tmp_path / "whole", **settings)
    run_round(whole)
    scripted = {"engine": "tests.generate.scripted", "model": "a"}
    build_run(tmp_path / "killed", **settings, roles={"teacher": {**scripted, "args": {"die_after": 20}}})
    with pytest.raises(Killed):
        run_round(Run(tmp_path / "killed"))
    killed = build_run(tmp_path / "killed", **settings)
    run_round(killed)
    assert contents(killed) == contents(whole)
    assert killed.stage(1, "generate").record()["journal_hits"] >= 20
    candidates = read_rows(killed.round_dir(1) / "candidates.jsonl", Candidate)
    assert len(candidates) == 24
    assert all(one.recipe == "mine.shouting" and one.input == one.input.upper() for one in candidates)


def test_a_complete_round_is_left_alone(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    run_round(run)
    before = contents(run)
    Log.clear()
    run_round(run)
    assert contents(run) == before
    assert Log.asked == []


def test_the_loop_can_share_the_seeds_out_anew(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    shares = {"repair": 0.25, "variation": 0.25, "explore": 0.5}
    write_json(run.round_dir(1) / "seed_override.json", {"shares": shares, "reason": "trials"})
    run_round(run)
    seeds = Counter(one.recipe for one in read_rows(run.round_dir(1) / "seeds.jsonl", Seed))
    assert seeds == {"repair": 6, "variation": 6, "explore": 12}
    tokens = run.stage(1, "generate").record()["tokens_by_recipe"]
    assert tokens.keys() == shares.keys()
    record = run.stage(1, "generate").record()
    assert sum(tokens.values()) == record["prompt_tokens"] + record["completion_tokens"]


def test_an_override_of_nonsense_is_refused(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    write_json(run.round_dir(1) / "seed_override.json", {"share": {}, "reason": "x"})
    with pytest.raises(UserError, match=r"seed_override.json: unknown key 'share'\. Did you mean 'shares'"):
        run_round(run)


def test_without_recipes_nothing_is_asked(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", generate={"recipes": []})
    run_round(run)
    assert Log.events == []
    assert read_json(run.round_dir(1) / "funnel.json")["kept"] == 0


def test_failures_of_a_held_out_split_stop_the_stage(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    path = run.round_dir(0) / "failures.jsonl"
    write_rows(path, [one.model_copy(update={"split": "gate"}) for one in read_rows(path, Failure)])
    with pytest.raises(UserError, match="from split 'gate'"):
        run_round(run)


@pytest.mark.parametrize(("round", "message"), [(0, "round 0 is the untouched student"), (1, "no such file")])
def test_a_round_that_cannot_start_says_why(tmp_path: Path, round: int, message: str) -> None:
    run = build_run(tmp_path / "run")
    (run.round_dir(0) / "failures.jsonl").unlink()
    with pytest.raises(UserError, match=message):
        run_round(run, round)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"roles": {"teacher": {"sampling": {"temperature": 0.0}}}}, "roles.teacher is greedy"),
        ({"generate": {"prompts": "PROMPTS"}}, "'solve.jinja': 'proble' is undefined"),
    ],
)
def test_what_a_later_step_would_stumble_on_is_found_before_a_model_is_loaded(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "solve.jinja").write_text("{{ proble }}")
    if "generate" in changes:
        changes = {"generate": {"prompts": str(tmp_path)}}
    with pytest.raises(UserError, match=message):
        run_round(build_run(tmp_path / "run", **changes))
    assert Log.events == []


def test_a_user_s_mistake_exits_2_without_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "generate.run", "--run", str(tmp_path), "--round", "1"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "is not a run: it holds no config.resolved.json" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_teacher_of_garbage_is_loud_and_nothing_is_lost(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teacher: dict[str, Any] = {
        "engine": "vllm_offline",
        "args": {"max_num_seqs": 16, "dtype": "float32"},
        "sampling": {"temperature": 1.0, "max_tokens": 12},
    }
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    for name in ("repair", "variation", "explore", "solve"):
        (prompts / f"{name}.jinja").write_text(f"{name}: {{{{ seed.example.input }}}}")
    run = build_run(
        tmp_path / "run",
        model=str(tiny_model),
        engine="vllm_offline",
        roles={"teacher": teacher},
        generate={"num_seeds": 12, "prompts": str(prompts)},
    )
    caplog.set_level(logging.WARNING)
    run_round(run)
    funnel = read_json(run.round_dir(1) / "funnel.json")
    record = run.stage(1, "generate").record()
    assert funnel["kept"] == 0
    assert "no sample of this round was kept" in funnel["warning"]
    assert "no sample of this round was kept" in caplog.text
    assert record["requests"] >= 12
    assert record["truncated"] > 0
    rejected = read_rows(run.round_dir(1) / "rejected.jsonl", Rejection)
    assert len(rejected) == 12
    assert all(one.reason for one in rejected)


@pytest.mark.parametrize(("truncated", "is_told"), [(10, False), (11, True)])
def test_replies_that_were_mostly_cut_are_told(truncated: int, is_told: bool, caplog: pytest.LogCaptureFixture) -> None:
    counts = {"requests": 20, "journal_hits": 0, "prompt_tokens": 9, "completion_tokens": 9, "truncated": truncated}
    generate_run.tell([], [], counts)
    assert ("11 of 20 replies were cut at max_tokens" in caplog.text) == is_told
