import json
from pathlib import Path
from typing import Any

import pytest

from synthloop.config import Config, dump, parse
from synthloop.errors import UserError
from synthloop.records import Score
from synthloop.store import Run, read_rows, stage_settings, write_json, write_rows

CONFIG = {"name": "x", "task": {"name": "gsm8k", "path": "d"}, "student": {"model": "m"}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    write_json(tmp_path / "config.resolved.json", dump(parse(Config, CONFIG, "x")))
    return Run(tmp_path)


def test_a_stage_is_complete_only_when_its_body_ended(run: Run) -> None:
    stage = run.stage(1, "mix")
    with pytest.raises(RuntimeError), stage.write([]) as writer:
        (writer.folder / "train.jsonl").write_text("{}\n")
        raise RuntimeError
    assert not stage.is_complete
    assert not (stage.folder / "train.jsonl").exists()
    with stage.write([]) as writer:
        assert (writer.folder / "train.jsonl").exists(), "a half-done stage continues from what it left"
        writer.notes["warning"] = "w"
    assert stage.is_complete
    assert stage.record()["outputs"]["train.jsonl"]["rows"] == 1
    assert stage.record()["warning"] == "w"
    assert not stage.partial.exists()


def test_partial_work_of_other_inputs_is_thrown_away(run: Run) -> None:
    source = run.root / "input.jsonl"
    stage = run.stage(1, "train")
    for text in ("one", "two"):
        source.write_text(text)
        with pytest.raises(RuntimeError), stage.write([source]) as writer:
            assert not (writer.folder / "checkpoint").exists()
            (writer.folder / "checkpoint").write_text(text)
            raise RuntimeError


def test_two_stages_share_a_folder(run: Run) -> None:
    for name in ("eval", "test"):
        with run.stage(0, name).write([]) as writer:
            (writer.folder / "eval").mkdir(exist_ok=True)
            (writer.folder / "eval" / f"{name}.json").write_text("{}")
    assert {path.name for path in (run.round_dir(0) / "eval").iterdir()} == {"eval.json", "test.json"}


def test_one_writer_a_run(run: Run) -> None:
    with run.lock(), pytest.raises(UserError, match="another process"), run.lock():
        pass
    with run.lock():
        pass


def test_hardware_and_paths_stay_out_of_the_fingerprint() -> None:
    def settings(**train: object) -> dict[str, object]:
        return stage_settings(parse(Config, {**CONFIG, "train": train}, "x"), "train")

    assert settings(accelerate="a.yaml") == settings(accelerate="b.yaml")
    assert settings(lora={"r": 8}) != settings(lora={"r": 16})
    assert settings(args={"dataloader_num_workers": 1}) == settings(args={"dataloader_num_workers": 2})
    assert settings(args={"per_device_train_batch_size": 1}) != settings(args={"per_device_train_batch_size": 2})


@pytest.mark.parametrize(
    ("tracked", "one", "other"),
    [
        (False, {"engine": "server", "base_urls": ["http://a"]}, {"engine": "server", "base_urls": ["http://b"]}),
        (False, {"args": {"tensor_parallel_size": 1}}, {"args": {"max_num_batched_tokens": 8}}),
        (True, {"args": {"dtype": "float32"}}, {"args": {"dtype": "bfloat16"}}),
        (True, {"sampling": {"path": 1}}, {"sampling": {"path": 2}}),
    ],
)
def test_a_teacher_may_move_to_other_hardware(tracked: bool, one: dict[str, Any], other: dict[str, Any]) -> None:
    def settings(teacher: dict[str, Any]) -> dict[str, Any]:
        return stage_settings(
            parse(Config, {**CONFIG, "roles": {"teacher": {"model": "t", **teacher}}}, "x"), "generate"
        )

    assert (settings(one) != settings(other)) == tracked


def test_a_row_that_does_not_fit_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [Score(value=1, correct=True)])
    with path.open("a") as stream:
        stream.write(json.dumps({"value": 1, "corect": True}) + "\n")
    with pytest.raises(UserError, match="rows.jsonl, line 2: "):
        read_rows(path, Score)
    path.write_text('{"value": 1, "correct": true}\n{"value": \n')
    with pytest.raises(UserError, match="rows.jsonl, line 2: not valid JSON"):
        read_rows(path, Score)
