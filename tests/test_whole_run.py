"""One small run through every real part, and what a person does with it afterwards."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from synthloop.records import Candidate, Prediction, Row, Seed
from synthloop.store import read_rows
from tests import small_run
from tests.wandb_files import history

SYNTHLOOP = str(Path(sys.executable).with_name("synthloop"))


def synthloop(*arguments: str | Path, code: int = 0) -> str:
    done = subprocess.run(
        [SYNTHLOOP, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=small_run.ROOT
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_report_has_its_fixed_shape(whole_run: Path) -> None:
    report = json.loads((whole_run / "report.json").read_text())
    assert {"rounds", "baseline", "best_round", "gain"} <= report.keys()
    first, second = report["rounds"]
    assert {"metric", "value", "n", "ci_low", "ci_high", "slices"} <= first["eval"]["test"].keys()
    assert {"real_rows", "synthetic_rows", "real_tokens", "synthetic_tokens", "real_fraction"} <= second["mix"].keys()
    counted = {"requests", "candidates", "kept", "prompt_tokens", "completion_tokens", "seconds"}
    assert counted <= second["generate"].keys()
    assert second["generate"]["kept"] > 0
    assert second["collapse"]["verdict"] == "uncalibrated"
    assert {"value", "ci_low", "ci_high", "p_value"} <= report["gain"].keys()
    assert (whole_run / "report.html").read_text().startswith("<!doctype html>")


def test_the_mix_was_chosen_by_trials_through_trl_and_vllm(whole_run: Path) -> None:
    found = json.loads((whole_run / "round-001" / "search.json").read_text())
    trials = [one["trial"] for one in found["trials"]]
    assert {(one["value"], one["seed"]) for one in trials if one["axis"] == "amount"} == {
        (ratio, seed) for ratio in (0, 1) for seed in (0, 1)
    }
    assert {one["recipe"] for one in trials if one["axis"] == "without"} == {"repair", "variation", "explore"}
    assert all(one["n"] == 60 and one["steps"] > 0 and 0 <= one["value"] <= 1 for one in found["trials"])
    assert found["in_force"] == 1
    assert (
        json.loads((whole_run / "round-001" / "mix.json").read_text())["bounds"]["synthetic_per_real"] == found["ratio"]
    )
    assert sum(found["recipes"]["shares"].values()) == pytest.approx(1)
    assert found["cost"]["trials"] == len(trials) == 10
    assert not list(whole_run.glob("round-001/trials/*/checkpoints"))
    metrics = json.loads((whole_run / "metrics.jsonl").read_text().splitlines()[-1])
    assert metrics["mix/search/ratio"] == found["ratio"]
    assert {one.split("/")[-1] for one in metrics if one.startswith("generate/share/")} == {
        "repair",
        "variation",
        "explore",
    }


def test_a_sweep_draws_both_curves(whole_run: Path, tmp_path: Path) -> None:
    options = ["--ratios", "0,1", "--shares", "0,1", "--max-real-rows", "40", "--to", tmp_path / "sweep"]
    printed = synthloop("sweep", whole_run, *options)
    assert "share of synthetic data, at equal size" in printed
    found = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert found["axes"].keys() == {"amount", "share"}
    assert found["axes"]["amount"]["trials"][0]["rows"] == 40
    assert found["axes"]["amount"]["n"] == 60
    drawn = ElementTree.parse(tmp_path / "sweep" / "sweep.svg").getroot()
    assert len(drawn.findall(".//{*}circle")) == 8
    assert "is of a sweep with other options" in synthloop("sweep", whole_run, *options, "--seeds", "3", code=2)


def test_the_report_says_what_the_search_took(whole_run: Path) -> None:
    assert "Finding it took 10 trials and" in synthloop("report", whole_run)


def test_a_finished_search_again_does_nothing(whole_run: Path) -> None:
    before = (whole_run / "round-001" / "search.json").read_bytes()
    told = synthloop("search", "--run", whole_run, "--round", "1")
    assert "trials: round 1 is already done" in told
    assert "search: round 1 is already done" in told
    assert (whole_run / "round-001" / "search.json").read_bytes() == before


def test_the_teacher_wrote_in_vllm_and_trl_trained_under_accelerate(whole_run: Path) -> None:
    train_log = (whole_run / "round-001" / "logs" / "train.log").read_text()
    assert "accelerate launch --quiet --config_file" in train_log
    assert "auto_cpu.yaml -m train.run" in train_log
    record = json.loads((whole_run / "round-001" / "stages" / "train.json").read_text())
    assert record["versions"]["trl"]
    assert record["steps"] > 0
    assert "vllm_offline" in (whole_run / "round-001" / "logs" / "generate.log").read_text()


def test_every_wandb_key_is_logged_offline(whole_run: Path) -> None:
    keys: set[str] = set().union(*itertools.chain(*history(whole_run)))
    expected = {f"eval/{split}/{name}" for split in ("probe", "gate", "test") for name in ("ci_low", "ci_high")}
    expected |= {f"eval/{split}/exact_match" for split in ("probe", "gate", "test")}
    expected |= {"round", "mix/real_fraction", "mix/real_tokens", "mix/synthetic_tokens", "generate/yield"}
    expected |= {"collapse/nll", "collapse/verdict", "cost/prompt_tokens", "cost/completion_tokens", "cost/gpu_seconds"}
    assert expected <= keys, expected - keys
    assert any(key.startswith("curate/rejected/") for key in keys)


def test_every_signal_ratio_depth_and_action_is_tracked(whole_run: Path) -> None:
    rows = [json.loads(line) for line in (whole_run / "metrics.jsonl").read_text().splitlines()]
    assert {key for row in itertools.chain(*history(whole_run)) for key in row if not key.startswith("_")} == {
        key for row in rows for key in row
    }
    last = rows[-1]
    signs = json.loads((whole_run / "round-001" / "collapse.json").read_text())
    measured = {name for name, value in signs["signals"].items() if value is not None}
    assert len(measured) > 15
    assert {f"collapse/{name}" for name in measured} <= last.keys()
    mix = json.loads((whole_run / "round-001" / "mix.json").read_text())
    assert last["mix/synthetic_per_real"] == mix["achieved"]["synthetic_per_real"]
    assert last["mix/asked_synthetic_per_real"] == mix["bounds"]["synthetic_per_real"]
    assert {key: last[f"mix/depth_share/{key}"] for key in mix["depth_shares"]} == mix["depth_shares"]
    assert last["action"] == "continue"


def test_no_held_out_text_is_trained_on_and_every_row_is_accounted_for(whole_run: Path) -> None:
    round_dir = whole_run / "round-001"
    rows = read_rows(round_dir / "train.jsonl", Row)
    held_out = {
        json.loads(line)["input"]
        for split in ("probe", "gate", "test")
        for line in (whole_run / "data" / f"{split}.jsonl").read_text().splitlines()
    }
    assert not [row.id for row in rows if row.messages[-1]["content"] in held_out]
    funnel = json.loads((round_dir / "funnel.json").read_text())
    seeds = read_rows(round_dir / "seeds.jsonl", Seed)
    assert funnel["kept"] + sum(funnel["rejected"].values()) == len(seeds)
    candidates = {one.id for one in read_rows(round_dir / "candidates.jsonl", Candidate)}
    assert {row.id for row in rows if row.source == "synthetic"} <= candidates
    assert len(read_rows(round_dir / "eval" / "gate.jsonl", Prediction)) == 60


def test_status_trace_compare_and_export(whole_run: Path, tmp_path: Path) -> None:
    assert "baseline" in synthloop("status", whole_run)
    kept = read_rows(whole_run / "round-001" / "curated.jsonl", Candidate)[0]
    story = synthloop("trace", whole_run, kept.id)
    assert kept.seed_id in story
    assert "trained on in rounds [1]" in story or "over the cap" in story
    assert "request " in story
    assert "real, split train" in synthloop(
        "trace", whole_run, json.loads((whole_run / "data/train.jsonl").read_text().splitlines()[0])["id"]
    )
    assert "no candidate and no real example" in synthloop("trace", whole_run, "nothing", code=2)
    other = shutil.copytree(whole_run, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoints", "wandb"))
    assert "difference +0.0" in synthloop("compare", whole_run, other)
    synthloop("export", whole_run, "--to", tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    synthloop("export", whole_run, "--to", tmp_path / "merged", "--merge")
    assert (tmp_path / "merged" / "model.safetensors").exists()


def test_a_finished_run_again_asks_and_trains_nothing(whole_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole_run.glob("round-*/stages/*.json")}
    printed = small_run.run(whole_run)
    assert "$" not in printed
    assert {path: path.stat().st_mtime_ns for path in whole_run.glob("round-*/stages/*.json")} == before


def test_changed_settings_are_refused_by_name(whole_run: Path) -> None:
    command = small_run.command(whole_run, "train.lora.r=8")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=small_run.ROOT)
    assert done.returncode == 2
    assert "train.lora.r: was" in done.stderr
    assert "Traceback" not in done.stderr


pytestmark = pytest.mark.slow
