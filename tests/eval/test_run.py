"""Stages `eval` and `test` on a tiny random student, through real vLLM, with and without a LoRA adapter."""

from __future__ import annotations

import itertools
import json
import logging
import math
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from eval.diversity import rare_types
from eval.run import main, parser, read_split
from synthloop import chat
from synthloop.config import Config, dump, parse
from synthloop.errors import UserError
from synthloop.records import Candidate, Example, Failure, Message, Prediction
from synthloop.splits import prepare
from synthloop.store import Run, read_json, read_rows, write_json, write_rows
from tests.engines.conftest import VLLM_ARGS, make_adapter
from tests.shapes import SHAPES, put_on
from train.rows import tokenise
from train.sources import real_row

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {
    "name": "t",
    "task": {"name": "tests.eval.parity", "num_train": 90, "num_test": 12},
    "splits": {"probe": 20, "gate": 30},
    "eval": {"sampling": {"temperature": 0.0, "max_tokens": 12}, "max_examples": {"test": 10}},
    "collapse": {"num_prompts": 8, "num_samples": 3, "sampling": {"temperature": 1.0, "max_tokens": 12}},
}

COPY = Candidate(
    id="c",
    round=1,
    recipe="r",
    seed_id="s",
    input="Is the number of ones in 0 1 1 even?",
    messages=({"role": "user", "content": "Is the number of ones in 0 1 1 even?"},),
    completion="yes",
    answer="yes",
)


def make_run(root: Path, model: Path, args: dict[str, Any] | None = None, **sections: Any) -> Run:
    student = {"model": str(model), "args": {**VLLM_ARGS, **(args or {})}}
    config = parse(Config, {**SETTINGS, **sections, "student": student}, "config")
    write_json(root / "config.resolved.json", dump(config))
    prepare(config, root)
    return Run(root)


def evaluate(run: Run, round: int, *stages: str) -> Path:
    options = [option for stage in stages for option in ("--stage", stage)]
    main(parser().parse_args(["--run", str(run.root), "--round", str(round), *options]))
    return run.round_dir(round)


def decide(run: Run, round: int, accepted: bool) -> None:
    with run.stage(round, "decide").write([]) as stage:
        write_json(
            stage.folder / "round.json", {"round": round, "accepted": accepted, "best_round": round if accepted else 0}
        )


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with round 0 evaluated and accepted, round 1 with an adapter and a mix, not yet evaluated."""
    run = make_run(tmp_path_factory.mktemp("runs") / "t", tiny_model)
    evaluate(run, 0, "eval", "test")
    decide(run, 0, accepted=True)
    make_adapter(tiny_model, run.round_dir(1) / "adapter", rank=4)
    mix = {"real_fraction": 0.5, "max_depth": 1, "depth_shares": {"0": 0.5, "1": 0.5}}
    write_json(run.round_dir(1) / "mix.json", mix)
    write_rows(run.round_dir(1) / "curated.jsonl", [COPY.model_copy(update={"id": f"c{n}"}) for n in range(200)])
    return run


@pytest.fixture(scope="module")
def round_1(run: Run) -> Path:
    return evaluate(run, 1, "eval", "test")


def predictions(folder: Path, split: str) -> list[Prediction]:
    return read_rows(folder / "eval" / f"{split}.jsonl", Prediction)


def test_the_baseline(run: Run) -> None:
    folder = run.round_dir(0)
    scores = read_json(folder / "eval" / "scores.json")
    assert set(scores) == {"splits"}
    for split, size in (("probe", 20), ("gate", 30)):
        answered, summary = predictions(folder, split), scores["splits"][split]
        assert [one.id for one in answered] == [one.id for one in read_rows(run.split(split), Example)]
        assert summary["value"] == sum(one.value for one in answered) / size
        assert (summary["metric"], summary["n"]) == ("parity", size)
        assert 0 < summary["ci_low"] < summary["value"] < summary["ci_high"] < 1
        assert summary["truncated"] == sum(one.truncated for one in answered)
        assert sum(part["n"] for part in summary["slices"].values()) == size
        assert summary["errors"] == 0
    wrong = [one.id for one in predictions(folder, "probe") if not one.correct]
    failures = read_rows(folder / "failures.jsonl", Failure)
    assert [one.id for one in failures] == wrong
    assert {one.split for one in failures} == {"probe"}
    assert read_json(folder / "eval" / "test.json")["splits"]["test"]["n"] == 10


def test_gains_are_paired(run: Run, round_1: Path) -> None:
    scores = read_json(round_1 / "eval" / "scores.json")
    for split in ("probe", "gate"):
        old, new = predictions(run.round_dir(0), split), predictions(round_1, split)
        assert [one.response for one in old] != [one.response for one in new], "the adapter changes nothing"
        paired = scores["paired"][split]
        assert paired["against_round"] == 0
        assert paired["wins"] == sum(b.correct > a.correct for a, b in zip(old, new, strict=True))
        assert paired["losses"] == sum(b.correct < a.correct for a, b in zip(old, new, strict=True))
        assert paired["gain"] == pytest.approx((paired["wins"] - paired["losses"]) / len(new))
        assert paired["ci_low"] <= paired["gain"] <= paired["ci_high"]
    assert scores["paired_baseline"] == scores["paired"]
    test = read_json(round_1 / "eval" / "test.json")
    assert test["paired"]["test"]["n"] == test["splits"]["test"]["n"] == 10


def test_the_record_holds_inputs_tokens_and_counts(run: Run, round_1: Path) -> None:
    record = run.stage(1, "eval").record()
    assert {"data/probe.jsonl", "data/gate.jsonl", "round-001/adapter", "round-001/mix.json"} <= set(record["inputs"])
    assert {"round-000/eval/gate.jsonl", "round-000/collapse.json"} <= set(record["inputs"])
    assert record["requests"] == 20 + 30 + 30 + 3 * 8
    assert record["prompt_tokens"] > record["completion_tokens"] > 0
    assert record["failures"] == record["outputs"]["failures.jsonl"]["rows"]
    assert run.stage(1, "test").record()["requests"] == 10


def test_likelihood_of_real_text_is_that_of_the_training_loss(run: Run, round_1: Path) -> None:
    """collapse/nll and nll_rare against the loss of plain transformers + PEFT on the rows that training sees."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(run.config.student.model, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, run.adapter(1)).eval()
    tokenizer = chat.load_tokenizer(run.config.student.model)
    gate = read_rows(run.split("gate"), Example)
    train = tokenise(tokenizer, [real_row(example) for example in read_rows(run.split("train"), Example)])
    known = Counter(token for row in train for token in itertools.compress(row.input_ids, row.completion_mask))
    common = torch.tensor(sorted(known.keys() - rare_types(known)))
    total, rare_total, count, rare_count = 0.0, 0.0, 0, 0
    for row in tokenise(tokenizer, [real_row(example) for example in gate]):
        ids, mask = torch.tensor([row.input_ids]), torch.tensor(row.completion_mask[1:]).bool()
        with torch.no_grad():
            logprobs = model(ids).logits[0, :-1].log_softmax(-1)
        found = logprobs.gather(1, ids[0, 1:, None])[:, 0]
        rare = mask & ~torch.isin(ids[0, 1:], common)
        total, rare_total = total - float(found[mask].sum()), rare_total - float(found[rare].sum())
        count, rare_count = count + int(mask.sum()), rare_count + int(rare.sum())
    assert 0 < rare_count < count / 2
    collapse = read_json(round_1 / "collapse.json")
    assert collapse["measured_on"]["nll_tokens"] == count
    assert collapse["measured_on"]["nll_rare_tokens"] == rare_count
    assert collapse["signals"]["nll"] == pytest.approx(total / count, rel=1e-3)
    assert collapse["signals"]["nll_rare"] == pytest.approx(rare_total / rare_count, rel=1e-3)


def test_collapse_signals(run: Run, round_1: Path) -> None:
    before, after = read_json(run.round_dir(0) / "collapse.json"), read_json(round_1 / "collapse.json")
    assert before["verdict"] == after["verdict"] == "uncalibrated"
    assert "no control retrains" in after["reason"]
    assert "no error rate is stated" in after["predicate"]
    assert (after["calibrated"], after["alpha"]) == (False, 0.05)
    assert {one["signal"] for one in after["tests"]} < set(after["signals"])
    assert before["baseline"] == before["signals"] == after["baseline"]
    assert set(after["signals"]) - set(before["signals"]) == {"depth_share_0", "depth_share_1"}
    signals = after["signals"]
    assert before["signals"]["nll"] != signals["nll"]
    assert (signals["real_fraction"], signals["max_depth"], signals["depth_share_1"]) == (0.5, 1.0, 0.5)
    assert before["signals"]["real_fraction"] is None
    assert 0 < signals["distinct_2"] <= 1
    assert after["measured_on"]["budget_words"] == 32
    assert all(value is None or math.isfinite(value) for value in signals.values())
    assert 0 <= signals["pass_at_1"] <= signals["pass_at_k"] <= 1
    assert signals["pass_gap"] == pytest.approx(signals["pass_at_k"] - signals["pass_at_1"])
    assert (signals["pass_at_k"] * 8) % 1 == 0
    assert (signals["pass_at_1"] * 24) % 1 == pytest.approx(0, abs=1e-9)
    gate = predictions(round_1, "gate")
    assert signals["accuracy"] == sum(one.value for one in gate) / len(gate)


def test_the_round_s_synthetic_rows_are_measured_beside_the_student(run: Run, round_1: Path) -> None:
    rows = read_rows(round_1 / "curated.jsonl", Candidate)
    after = read_json(round_1 / "collapse.json")
    assert after["measured_on"]["data_rows"] == len(rows)
    assert after["signals"]["data_distinct_2"] < after["signals"]["distinct_2"], "one text, many times"
    assert after["signals"]["data_vendi"] == pytest.approx(1)
    assert read_json(run.round_dir(0) / "collapse.json")["signals"]["data_vendi"] is None


def test_the_verdict_is_on_the_trend_of_the_rounds_and_calibrated_by_controls(
    run: Run, round_1: Path, tmp_path: Path
) -> None:
    """Rounds 2 and 3 are round 1 again, but for a loss that was lower in rounds 1 and 2 than measured in round 3."""
    copy = Run(Path(shutil.copytree(run.root, tmp_path / "trend")))
    measured = read_json(round_1 / "collapse.json")["signals"]
    controls = {name: [value, value * 1.001, value * 0.999] for name, value in measured.items() if value is not None}
    write_json(tmp_path / "controls.json", {"signals": controls})
    config = read_json(copy.root / "config.resolved.json")
    config["collapse"]["controls"] = str(tmp_path / "controls.json")
    write_json(copy.root / "config.resolved.json", config)
    copy = Run(copy.root)
    copy.stage(1, "eval").forget()  # its record speaks for another collapse.json
    for round in (1, 2):
        signals = {**measured, "nll": measured["nll"] * (0.7 + 0.1 * round)}
        write_json(copy.round_dir(round) / "collapse.json", {"signals": signals})
    shutil.copytree(run.adapter(1) or tmp_path, copy.round_dir(3) / "adapter")
    after = read_json(evaluate(copy, 3) / "collapse.json")
    assert (after["verdict"], after["calibrated"]) == ("stop", True), after["reason"]
    assert after["reason"].startswith("nll (fit) rises by")
    assert [one["signal"] for one in after["tests"] if one["alarm"]] == ["nll"]
    assert "at most 0.05" in after["predicate"]
    record = copy.stage(3, "eval").record()
    assert {f"round-00{round}/collapse.json" for round in range(3)} <= set(record["inputs"])


def test_a_complete_stage_is_left_alone(round_1: Path, run: Run) -> None:
    record = (round_1 / "stages" / "eval.json").read_bytes()
    evaluate(run, 1)
    assert (round_1 / "stages" / "eval.json").read_bytes() == record


def test_done_again_it_ends_byte_identical_and_sees_the_training_prompts(
    run: Run, round_1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vllm.inputs

    files = ("eval/probe.jsonl", "eval/gate.jsonl", "eval/scores.json", "failures.jsonl", "collapse.json")
    before = {name: (round_1 / name).read_bytes() for name in files}
    given: list[list[int]] = []
    original = vllm.inputs.tokens_input
    monkeypatch.setattr(vllm.inputs, "tokens_input", lambda ids: given.append(list(ids)) or original(ids))
    run.stage(1, "eval").forget()
    evaluate(run, 1)
    assert {name: (round_1 / name).read_bytes() for name in files} == before

    tokenizer = chat.load_tokenizer(run.config.student.model)
    rows = [real_row(one) for split in ("probe", "gate") for one in read_rows(run.split(split), Example)]
    for row, prompt in zip(tokenise(tokenizer, rows), given, strict=False):
        start = row.completion_mask.index(1)
        assert row.input_ids[:start] == prompt


def test_low_data_mode_and_prompts_longer_than_the_context(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`failures_from: train` evaluates train and seeds from it; a refused prompt is no failure to learn from."""
    run = make_run(
        tmp_path / "low",
        tiny_model,
        {"max_model_len": 80},
        generate={"failures_from": "train"},
        splits={**SETTINGS["splits"], "train": 12},
        collapse={"enabled": False},
        max_error_share=0.9,
    )
    with caplog.at_level(logging.WARNING):
        folder = evaluate(run, 0)
    summary = read_json(folder / "eval" / "scores.json")["splits"]
    answered = predictions(folder, "train")
    refused = [one.id for one in answered if one.prompt_tokens >= 80]
    assert (summary["train"]["n"], summary["train"]["errors"]) == (12 - len(refused), len(refused))
    assert 0 < len(refused) < 12
    assert f"train: {len(refused)} of 12 requests were not served" in caplog.text
    failures = read_rows(folder / "failures.jsonl", Failure)
    assert {one.split for one in failures} == {"train"}
    assert [one.id for one in failures] == [one.id for one in answered if not one.correct and one.id not in refused]
    assert not (folder / "collapse.json").exists()


def test_mistakes(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"round-007/adapter: no such adapter. Run stage `train`"):
        evaluate(run, 7)
    copy = Run(Path(shutil.copytree(run.root, tmp_path / "copy")))
    copy.stage(0, "eval").forget()
    (copy.root / "data" / "splits.json").unlink()  # it speaks for other rows
    copy.split("probe").write_text("")
    with pytest.raises(UserError, match="'probe' has no examples"):
        evaluate(copy, 0)


def test_a_baseline_whose_scorer_could_never_call_a_student_right(tiny_model: Path, tmp_path: Path) -> None:
    """Before anything is asked, so before the teacher is."""
    model = put_on(Path(shutil.copytree(tiny_model, tmp_path / "model")), SHAPES["channel"])
    rows = [{"input": f"{n} and {n * n + 1}", "output": "odd" if n % 2 else "even"} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    task = {"name": "jsonl", "path": str(tmp_path), "train": "rows.jsonl", "scorer": "exact"}
    run = make_run(tmp_path / "run", model, task=task, splits={"probe": 9, "gate": 9})
    with pytest.raises(UserError, match="learned as 'final.*the task's scorer calls wrong"):
        evaluate(run, 0)
    assert not run.stage(0, "eval").is_complete


def test_other_examples_cannot_be_paired(run: Run, round_1: Path, tmp_path: Path) -> None:
    from eval.scores import compare

    rows = (run.round_dir(0) / "eval" / "gate.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "gate.jsonl").write_text("".join(rows[1:]))
    with pytest.raises(UserError, match=r"other examples \(29\) than this round \(30\).*--from 0/eval"):
        compare(tmp_path / "gate.jsonl", predictions(round_1, "gate"), 0, 0.95, 0)


def test_the_command_line_shows_a_mistake_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eval.run", "--run", str(tmp_path / "gone"), "--round", "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_the_journal_is_not_for_students(run: Run) -> None:
    assert not run.journal_path.exists()
    assert json.loads((run.round_dir(0) / "stages" / "eval.json").read_text())["stage"] == "eval"


def test_a_cap_on_examples_is_drawn_by_the_seed_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    """A file sorted by label is common; its head would be of one label."""
    turn = (Message(role="user", content="?"),)
    rows = [
        Example(id=f"e{n}", input="?", messages=turn, completion=label, answer=label)
        for n, label in enumerate(["negative"] * 100 + ["positive"] * 100)
    ]

    def capped(seed: int, rows: list[Example]) -> list[Example]:
        root = tmp_path / f"{seed}"
        settings = {"name": "t", "task": {"name": "word_problems"}, "student": {"model": "m"}, "seed": seed}
        cap = {"eval": {"max_examples": {"gate": 40}}}
        write_json(root / "config.resolved.json", dump(parse(Config, settings | cap, "c.yaml")))
        run = Run(root)
        write_rows(run.split("gate"), rows)
        return read_split(run, "gate")

    drawn = capped(0, rows)
    assert 10 < Counter(one.answer for one in drawn)["positive"] < 30
    assert drawn == [one for one in rows if one in drawn], "in the order of the file"
    assert {one.id for one in capped(0, rows[::-1])} == {one.id for one in drawn} != {one.id for one in capped(1, rows)}
