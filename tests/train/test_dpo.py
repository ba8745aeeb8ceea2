"""The dpo objective on real TRL and PEFT, in this process: rows read, ids, the loss, settings refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from synthloop.chat import completion_ids, load_tokenizer, prompt_ids
from synthloop.errors import UserError
from synthloop.records import Candidate, Message, Row
from synthloop.store import write_rows
from synthloop.upstream import accepted
from tests.train.jobs import example_rows
from train.objectives import dpo

QUESTION = Message(role="user", content="2 + 2?")
RIGHT = Message(role="assistant", content="4")
WRONG = Message(role="assistant", content="5")


def pairs(count: int) -> list[Row]:
    """The example rows, each with a worse completion."""
    return [row.model_copy(update={"rejected": f"I think {index}."}) for index, row in enumerate(example_rows(count))]


def build(model: Path, folder: Path, *, rows: list[Row] | None = None, **settings: Any) -> tuple[Any, dict[str, int]]:
    """(a trainer on `rows`, its facts)."""
    args = {"per_device_train_batch_size": 4, "gradient_checkpointing": False, **settings.pop("args", {})}
    lora = {"r": 4, "target_modules": ["q_proj", "v_proj"], **settings.pop("lora", {})}
    config = dpo.Config(model=str(model), output_dir=folder, args=args, lora=lora, **settings)
    return dpo.build_trainer(config, dpo.build_args(config), pairs(16) if rows is None else rows)


def write_lines(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_both_completions_follow_the_prompt_of_inference(tiny_model: Path, tmp_path: Path) -> None:
    trainer, facts = build(tiny_model, tmp_path)
    tokenizer = load_tokenizer(str(tiny_model))
    for row, ids in zip(pairs(16), trainer.train_dataset, strict=True):
        assert row.rejected is not None
        assert ids["prompt_ids"] == prompt_ids(tokenizer, row.messages)
        assert ids["chosen_ids"] == completion_ids(tokenizer, row.messages, row.completion)
        assert ids["rejected_ids"] == completion_ids(tokenizer, row.messages, row.rejected)
    columns = trainer.train_dataset
    completions = sum(map(len, columns["chosen_ids"])) + sum(map(len, columns["rejected_ids"]))
    assert facts["rows"] == 16
    assert facts["completion_tokens"] == completions
    assert facts["tokens"] == completions + 2 * sum(map(len, columns["prompt_ids"]))


def test_it_trains_on_what_trl_would_make_of_the_same_conversations(tiny_model: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import DPOTrainer

    rows = pairs(16)
    ours = build(tiny_model, tmp_path)[0]
    conversations = {
        "prompt": [list(row.messages) for row in rows],
        "chosen": [[{"role": "assistant", "content": row.completion}] for row in rows],
        "rejected": [[{"role": "assistant", "content": row.rejected}] for row in rows],
    }
    theirs = DPOTrainer(
        model=str(tiny_model),
        args=ours.args,
        train_dataset=Dataset.from_dict(conversations),
        processing_class=load_tokenizer(str(tiny_model)),
    )
    for column in ("prompt_ids", "chosen_ids", "rejected_ids"):
        assert ours.train_dataset[column][:] == theirs.train_dataset[column][:]


def test_it_learns_to_prefer_the_chosen_from_a_loss_of_ln_2(tiny_model: Path, tmp_path: Path) -> None:
    """At the first step policy and reference are the same model, so the loss is -log sigmoid(0)."""
    trainer, _ = build(
        tiny_model,
        tmp_path,
        rows=pairs(4),
        args={"max_steps": 3, "learning_rate": 0.01, "logging_steps": 1, "save_strategy": "no"},
    )
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert log[-1]["loss"] < log[0]["loss"] - 0.01
    assert log[-1]["rewards/margins"] > 0


def test_pairs_whose_prompt_fills_the_length_are_left_out_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    long = pairs(1)[0].model_copy(update={"messages": (Message(role="user", content="apples " * 80),)})
    trainer, facts = build(tiny_model, tmp_path, rows=[*pairs(3), long], args={"max_length": 64})
    assert len(trainer.train_dataset) == 3
    assert (facts["rows"], facts["lost_rows"]) == (4, 1)
    with pytest.raises(UserError, match="All 1 prompts fill"):
        build(tiny_model, tmp_path, rows=[long], args={"max_length": 64})


@pytest.mark.parametrize(
    "line",
    [
        {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
        {"prompt": [QUESTION], "chosen": [RIGHT], "rejected": [WRONG]},
        {"prompt": [QUESTION], "chosen": [QUESTION, RIGHT], "rejected": [QUESTION, WRONG]},
        {"prompt": "2 + 2?", "chosen": [QUESTION, RIGHT], "rejected": [QUESTION, WRONG]},
        {"chosen": [QUESTION, RIGHT], "rejected": [QUESTION, WRONG]},
    ],
)
def test_trl_s_preference_formats_are_read(tmp_path: Path, line: dict[str, Any]) -> None:
    (row,) = dpo.read(write_lines(tmp_path / "pairs.jsonl", line))
    assert (row.id, row.messages, row.completion, row.rejected) == ("pairs:1", (QUESTION,), "4", "5")


def test_rows_and_candidates_of_the_loop_are_read(tmp_path: Path) -> None:
    rows = pairs(3)
    write_rows(tmp_path / "train.jsonl", rows)
    assert dpo.read(tmp_path / "train.jsonl") == rows
    candidate = Candidate(
        id="c", round=1, recipe="preference", seed_id="s", input="2 + 2?", messages=(QUESTION,), completion="4",
        answer="4", rejected="5",
    )  # fmt: skip
    write_rows(tmp_path / "curated.jsonl", [candidate])
    (row,) = dpo.read(tmp_path / "curated.jsonl")
    assert (row.id, row.messages, row.completion, row.rejected) == ("c", (QUESTION,), "4", "5")


def test_rows_without_rejected_are_an_error_that_counts_them(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [*pairs(3), *example_rows(2)])
    with pytest.raises(UserError, match=r"2 of 5 rows have no `rejected` \(2 of them real\)"):
        dpo.read(tmp_path / "train.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt": "2 + 2?", "chosen": "4", "rejected": [QUESTION]}, "one conversation but for the last turn"),
        ({"chosen": [QUESTION, RIGHT], "rejected": [RIGHT, WRONG]}, "one conversation but for the last turn"),
        ({"prompt": "2 + 2?", "chosen": "4"}, "no field 'rejected'"),
        ({"prompt": "2 + 2?", "completion": "4"}, "no field 'chosen'"),
        ({"chosen": "4", "rejected": "5"}, "no problem before 'chosen' and 'rejected'"),
    ],
)
def test_lines_of_another_format_are_refused(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dpo.read(write_lines(tmp_path / "pairs.jsonl", line))


def test_keys_that_are_not_read_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """UltraFeedback's own columns, one of which has the name of a key of ours."""
    line = {"source": "evol_instruct", "prompt": "2 + 2?", "chosen": "4", "rejected": "5", "score_chosen": 8.0}
    dpo.read(write_lines(tmp_path / "pairs.jsonl", line, line))
    assert "'score_chosen' in 2, 'source' in 2 of 2 rows" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"args": {"betta": 0.1}}, "Did you mean 'beta'?"),
        ({"args": {"completion_only_loss": True}}, "unknown key 'completion_only_loss' of trl.DPOConfig"),
        ({"args": {"seed": 1}}, "'seed' cannot be set"),
        ({"args": {"padding_free": True}}, "'padding_free' cannot be set"),
        ({"args": {"learning_rate": "5e-6"}}, "'learning_rate' is '5e-6'; trl.DPOConfig expects a number."),
        ({"lora": {"rank": 8}}, "unknown key 'rank' of peft.LoraConfig"),
        ({"lora": {"init_lora_weights": "pissa"}}, "the reference of dpo, that is not the student"),
        ({"lora": {"lora_dropout": 0.1}}, "TRL turns dropout off in dpo"),
        ({"quantization": {"load_in_4bits": True}}, "Did you mean 'load_in_4bit'?"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        dpo.Config(**settings)
    assert message in str(error.value)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_what_the_settings_say(tiny_model: Path, tmp_path: Path, dropout: float) -> None:
    import torch

    args = {"disable_dropout": False} if dropout else {}
    trainer, _ = build(
        tiny_model, tmp_path, args=args, lora={"r": 4, "target_modules": ["q_proj"], "lora_dropout": dropout}
    )
    assert {one.p for one in trainer.model.modules() if isinstance(one, torch.nn.Dropout)} == (
        {dropout} if dropout else set()
    )


def test_every_owned_key_is_one_that_upstream_has() -> None:
    names = accepted("dpo_config")
    assert names is not None
    assert dpo.OWNED.keys() <= names


def test_values_that_trl_refuses_are_the_users_error(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.args: trl\.DPOConfig refuses"):
        build(tiny_model, tmp_path, args={"loss_type": ["sigmoid"], "loss_weights": [1.0, 2.0]})
    with pytest.raises(UserError, match="Label smoothing must be greater"):
        build(tiny_model, tmp_path, args={"loss_type": "exo_pair"})
