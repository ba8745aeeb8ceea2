"""Examples that were not answered: no wrong answers, out of both arms of a comparison; too many fail the stage."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.run import main, parser, unreadable
from eval.scores import compare, summarise
from eval.student import Student, prompt_request
from synthloop.config import Config, dump, parse
from synthloop.errors import StageFailed, UserError
from synthloop.records import Example, Failure, Prediction
from synthloop.splits import prepare
from synthloop.store import Run, read_json, read_rows, write_json, write_rows
from tests.engines.test_server import FAST, FakeEndpoint
from tests.eval import scripted_judge
from tests.train.jobs import train

ROOT = Path(__file__).parents[2]


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    """A student that says what it is asked, and so is always right."""
    fake = FakeEndpoint()
    yield fake
    fake.stop()


def make_run(root: Path, endpoint: FakeEndpoint, **changes: Any) -> Run:
    data = root / "data-of-the-user"
    data.mkdir(parents=True)
    for split, count in (("train", 120), ("test", 40)):
        rows = [{"input": f"{split} {n}", "output": f"{split} {n}"} for n in range(count)]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scorer = changes.pop("scorer", "exact")
    settings = {
        "name": "t",
        "task": {"name": "jsonl", "path": str(data), "train": "train.jsonl", "test": "test.jsonl", "scorer": scorer},
        "student": {"engine": "server", "model": "m", "base_urls": [endpoint.base_url], **FAST},
        "splits": {"probe": 40, "gate": 40, "near_duplicate": 1.0},
        "collapse": {"enabled": False},
        "train": {"accelerate": str(ROOT / "configs/accelerate/cpu.yaml")},
    }
    config = parse(Config, settings | changes, "c.yaml")
    write_json(root / "config.resolved.json", dump(config))
    prepare(config, root)
    return Run(root)


def evaluate(run: Run) -> Path:
    main(parser().parse_args(["--run", str(run.root), "--round", "0"]))
    return run.round_dir(0)


def refusing(refused: set[str]) -> Callable[[dict[str, Any]], int | None]:
    return lambda body: 400 if body["messages"][-1]["content"] in refused else None


def some(run: Run, count: int) -> set[str]:
    return {one.input for split in ("probe", "gate") for one in read_rows(run.split(split), Example)[:count]}


def test_an_example_that_was_not_answered_is_no_wrong_answer(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    run = make_run(tmp_path, endpoint)
    endpoint.answer = refusing(some(run, 2))
    folder = evaluate(run)
    for split in ("probe", "gate"):
        summary = read_json(folder / "eval" / "scores.json")["splits"][split]
        assert (summary["value"], summary["n"], summary["errors"], summary["unparsed"]) == (1.0, 38, 2, 0)
        predictions = read_rows(folder / "eval" / f"{split}.jsonl", Prediction)
        assert len(predictions) == 40
        assert [one.error is None for one in predictions] == [False] * 2 + [True] * 38
    assert read_rows(folder / "failures.jsonl", Failure) == []
    record = run.stage(0, "eval").record()
    assert (record["errors"], record["devices"]) == (4, 0)
    assert "refused with 400" in record["error_messages"][0]["message"]


def test_what_a_schema_asks_beyond_its_grammar_is_counted(
    tmp_path: Path, endpoint: FakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    guides = {"structured_outputs": {"json": {"type": "string", "maxLength": 8}}}
    run = make_run(tmp_path, endpoint, eval={"sampling": guides})
    endpoint.writes = lambda body: json.dumps(body["messages"][-1]["content"])
    with caplog.at_level(logging.WARNING):
        evaluate(run)
    long = [one for split in ("probe", "gate") for one in read_rows(run.split(split), Example) if len(one.input) > 8]
    assert run.stage(0, "eval").record()["unread"] == len(long) > 0
    assert "are not the JSON that sampling.structured_outputs asks for" in caplog.text
    assert endpoint.bodies[0]["structured_outputs"] == {"json": {"type": "string"}}


def test_too_many_fail_the_stage_and_a_healthy_server_completes_it(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    run = make_run(tmp_path, endpoint)
    endpoint.answer = refusing(some(run, 3))
    with pytest.raises(StageFailed, match=r"probe: 3 of 40 requests were not served, above max_error_share=0\.05"):
        evaluate(run)
    assert not run.stage(0, "eval").is_complete
    endpoint.answer = lambda body: None
    assert read_json(evaluate(run) / "eval" / "scores.json")["splits"]["gate"]["n"] == 40


def test_without_one_answer_there_is_no_score_whatever_the_share(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda body: 400
    with pytest.raises(StageFailed, match="No example of 'probe' was answered.*refused with 400"):
        evaluate(make_run(tmp_path, endpoint, max_error_share=1.0))


def test_a_judge_that_could_not_be_asked_judges_nothing_wrong(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    scripted_judge.REFUSED.add("train 1")
    roles = {"judge": {"engine": "tests.eval.scripted_judge", "model": "fair"}}
    try:
        folder = evaluate(make_run(tmp_path, endpoint, roles=roles, scorer="judge", max_error_share=0.5))
    finally:
        scripted_judge.REFUSED.clear()
    summary = read_json(folder / "eval" / "scores.json")["splits"]
    assert all(one["value"] == 1.0 and one["n"] + one["errors"] == 40 for one in summary.values())
    assert sum(one["errors"] for one in summary.values()) > 0
    assert any("judge" in str(one.error) for one in read_rows(folder / "eval" / "gate.jsonl", Prediction))


@pytest.fixture(scope="module")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two trained adapters, each with its `logprobs.json`."""
    folder = tmp_path_factory.mktemp("trained")
    return {name: train(tiny_model, folder / name, r=rank) for name, rank in (("one", 2), ("other", 4))}


def student_run(root: Path, model: Path, endpoint: FakeEndpoint, **args: Any) -> Run:
    return make_run(root, endpoint, student={"engine": "hf", "model": str(model), "args": args})


def test_every_adapter_is_held_against_its_training_once_before_it_answers(
    tiny_model: Path, tmp_path: Path, endpoint: FakeEndpoint, adapters: dict[str, Path]
) -> None:
    run = student_run(tmp_path, tiny_model, endpoint)
    asked = [prompt_request(read_rows(run.split("gate"), Example)[0], {"temperature": 0.0, "max_tokens": 2}, 0)]
    with Student(run, adapters["one"]) as student:
        student.ask(asked, "gate")
        student.ask(asked, "gate")
        student.use(adapters["other"])
        student.ask(asked, "gate")
        usage = student.take_usage()
        assert [one["judged"] for one in usage["trainer_and_engine"]] == [True, True]
        assert all(one["largest_difference"] < 1e-4 for one in usage["trainer_and_engine"])
        assert usage["requests"] == 3
        assert student.take_usage()["trainer_and_engine"] == []
    with Student(run, None) as student:
        student.ask(asked, "gate")
        assert student.take_usage()["trainer_and_engine"] == []


def test_an_engine_whose_student_is_another_fails_the_stage(
    tiny_model: Path, tmp_path: Path, endpoint: FakeEndpoint, adapters: dict[str, Path]
) -> None:
    run = student_run(tmp_path, tiny_model, endpoint)
    asked = [prompt_request(read_rows(run.split("gate"), Example)[0], {"temperature": 0.0, "max_tokens": 2}, 0)]
    changed = Path(shutil.copytree(adapters["other"].parent, tmp_path / "changed")) / "adapter"
    settings = json.loads((changed / "adapter_config.json").read_text())
    (changed / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 64}))
    with Student(run, changed) as student, pytest.raises(StageFailed, match="lora_alpha=64, saved was 8"):
        student.ask(asked, "gate")
    (changed.parent / "logprobs.json").unlink()  # trained by an earlier version
    with Student(run, changed) as student:
        student.ask(asked, "gate")
        (facts,) = student.take_usage()["trainer_and_engine"]
    assert (facts["compared"], facts["why"]) == (False, "the training of adapter left no logprobs.json")


def prediction(name: str, value: float, error: str | None = None) -> Prediction:
    return Prediction(
        id=name, slice=None, response="", parsed=None, value=value, correct=value == 1, truncated=False,
        prompt_tokens=1, completion_tokens=1, error=error,
    )  # fmt: skip


def test_pairs_have_an_answer_in_both_arms(tmp_path: Path) -> None:
    old = [prediction("a", 0), prediction("b", 1), prediction("c", 0, "down"), prediction("d", 0)]
    new = [prediction("a", 1), prediction("b", 1), prediction("c", 1), prediction("d", 0, "down")]
    write_rows(tmp_path / "old.jsonl", old)
    found = compare(tmp_path / "old.jsonl", new, 0, 0.95, 0)
    assert (found["gain"], found["n"], found["left_out"]) == (0.5, 2, 2)
    with pytest.raises(UserError, match="no example was answered in this round and in round 0"):
        compare(tmp_path / "old.jsonl", [one.model_copy(update={"error": "down"}) for one in new], 0, 0.95, 0)


@pytest.mark.parametrize(
    ("truncated", "unparsed", "told"),
    [
        (0, 4, None),
        (5, 0, ["5 of 10 answers were cut", "raise eval.sampling.max_tokens."]),
        (0, 5, ["in 5 more the scorer found no answer", "let task.prompt ask"]),
        (6, 4, ["raise eval.sampling.max_tokens, and let task.prompt"]),
    ],
)
def test_a_score_of_answers_that_nobody_could_read_is_warned_of(
    truncated: int, unparsed: int, told: list[str] | None
) -> None:
    rows = [
        prediction(str(number), 0).model_copy(
            update={"truncated": number < truncated, "parsed": None if number < truncated + unparsed else "x"}
        )
        for number in range(10)
    ]
    warning = unreadable("gate", summarise("accuracy", rows, 0.95, 0))
    assert (warning is None) == (told is None)
    assert all(part in str(warning) for part in told or [])
