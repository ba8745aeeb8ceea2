"""The sft objective on real TRL and PEFT, in this process: what the loss is on, packing, QLoRA, settings refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from synthloop.chat import completion_ids, load_tokenizer
from synthloop.errors import UserError
from synthloop.records import Message
from synthloop.upstream import accepted
from tests.train.jobs import example_rows
from train.objectives import sft
from train.rows import tokenise


def build(model: Path, folder: Path, *, count: int = 16, **settings: Any) -> Any:
    """A trainer on `count` example rows."""
    args = {"per_device_train_batch_size": 4, "gradient_checkpointing": False, **settings.pop("args", {})}
    lora = {"r": 4, "target_modules": "all-linear"}
    config = sft.Config(model=str(model), output_dir=folder, args=args, lora=lora, **settings)
    trainer, _ = sft.build_trainer(config, sft.build_args(config), example_rows(count))
    return trainer


def test_the_loss_is_on_the_completion_only(tiny_model: Path, tmp_path: Path) -> None:
    trainer = build(tiny_model, tmp_path)
    tokenizer = load_tokenizer(str(tiny_model))
    seen = 0
    for batch in trainer.get_train_dataloader():
        for labels in batch["labels"]:
            learned = labels[labels != -100].tolist()
            assert any(learned == completion_ids(tokenizer, r.messages, r.completion) for r in example_rows(16))
            seen += 1
    assert seen == 16


def test_it_trains_on_what_trl_would_make_of_the_same_conversations(tiny_model: Path, tmp_path: Path) -> None:
    """TRL's own tokenisation of prompt/completion rows gives the same ids and labels."""
    from datasets import Dataset
    from trl import SFTTrainer

    rows = example_rows(16)
    ours = build(tiny_model, tmp_path).train_dataset
    conversations = {
        "prompt": [list(row.messages) for row in rows],
        "completion": [[{"role": "assistant", "content": row.completion}] for row in rows],
    }
    args = sft.build_args(sft.Config(model=str(tiny_model), output_dir=tmp_path))
    theirs = SFTTrainer(
        model=str(tiny_model),
        args=args,
        train_dataset=Dataset.from_dict(conversations),
        processing_class=load_tokenizer(str(tiny_model)),
    ).train_dataset
    assert ours["input_ids"][:] == theirs["input_ids"][:]
    assert ours["labels"][:] == theirs["labels"][:]


LONG = Message(role="user", content="apples " * 80)
CUTS: dict[str, dict[str, Any]] = {
    "keep_start": {},
    "keep_end": {"truncation_mode": "keep_end"},
    "bfd": {"packing": True},
    "bfd_split": {"packing": True, "packing_strategy": "bfd_split"},
    "wrapped": {"packing": True, "packing_strategy": "wrapped"},
    "whole_text": {"completion_only_loss": False},
}


@pytest.mark.filterwarnings("ignore:The `'keep_end'`:FutureWarning")
@pytest.mark.parametrize("name", CUTS)
def test_what_max_length_leaves_is_counted_as_trl_trains_it(tiny_model: Path, tmp_path: Path, name: str) -> None:
    """Against TRL given the whole rows; only packs without a label are missing, where a lost row would make one."""
    from datasets import Dataset
    from trl import SFTTrainer

    rows = [*example_rows(5), example_rows(1)[0].model_copy(update={"messages": (LONG,)})]
    config = sft.Config(
        model=str(tiny_model), output_dir=tmp_path, args={"max_length": 64, **CUTS[name]}, lora={"r": 4}
    )
    ours, facts = sft.build_trainer(config, sft.build_args(config), rows)
    tokens = tokenise(load_tokenizer(str(tiny_model)), rows)
    columns = {field: [getattr(one, field) for one in tokens] for field in ("input_ids", "completion_mask")}
    theirs = SFTTrainer(model=str(tiny_model), args=sft.build_args(config), train_dataset=Dataset.from_dict(columns))
    expected = [row["labels"] for row in theirs.train_dataset if any(id != -100 for id in row["labels"])]
    found = [row["labels"] for row in ours.train_dataset if any(id != -100 for id in row["labels"])]
    assert found == expected
    batches = [theirs.data_collator([row])["labels"] for row in theirs.train_dataset]
    assert facts["learned_tokens"] == sum(int((labels[:, 1:] != -100).sum()) for labels in batches)
    assert facts["sequences"] == len(ours.train_dataset)
    assert facts["lost_rows"] == (1 if name in ("keep_start", "bfd") else 0)
    assert facts["truncated_rows"] + facts["split_rows"] >= 1
    assert facts["empty_sequences"] == len(ours.train_dataset) - len(found)


def test_packed_rows_do_not_see_one_another(tiny_model: Path, tmp_path: Path) -> None:
    """A row has the same logits alone and behind another in a pack: SDPA masks them too, not only FlashAttention."""
    import torch

    trainer = build(tiny_model, tmp_path, args={"packing": True, "max_length": 128})
    packs = trainer.train_dataset
    assert len(packs) < 16
    assert sum(len(lengths) for lengths in packs["seq_lengths"]) == 16
    pack = next(pack for pack in packs if len(pack["seq_lengths"]) > 1)
    model = trainer.model.eval()
    with torch.no_grad():
        inputs = trainer.data_collator([pack])
        together = model(input_ids=inputs["input_ids"], position_ids=inputs["position_ids"]).logits[0]
        start = pack["seq_lengths"][0]
        end = start + pack["seq_lengths"][1]
        alone = model(input_ids=torch.tensor([pack["input_ids"][start:end]])).logits[0]
    torch.testing.assert_close(together[start:end], alone, rtol=1e-4, atol=1e-4)


def test_qlora_trains_on_nf4_weights_on_a_cpu(tiny_model: Path, tmp_path: Path) -> None:
    trainer = build(
        tiny_model,
        tmp_path,
        args={"max_steps": 6, "learning_rate": 0.01, "logging_steps": 1, "save_strategy": "no"},
        quantization={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    )
    kinds = {type(parameter).__name__ for parameter in trainer.model.parameters()}
    assert "Params4bit" in kinds
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"args": {"lerning_rate": 1}}, "Did you mean 'learning_rate'?"),
        ({"args": {"output_dir": "x"}}, "'output_dir' cannot be set: checkpoints go into the run directory"),
        ({"args": {"seed": 1}}, "'seed' cannot be set"),
        ({"args": {"packing": True, "max_length": None}}, "`max_length` tokens, which is null"),
        ({"args": {"packing": True, "truncation_mode": "keep_end"}}, "'truncation_mode' is not read by TRL"),
        ({"lora": {"rank": 8}}, "unknown key 'rank' of peft.LoraConfig"),
        ({"quantization": {"load_in_4bits": True}}, "Did you mean 'load_in_4bit'?"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        sft.Config(**settings)
    assert message in str(error.value)


def test_every_owned_key_is_one_that_upstream_has() -> None:
    names = accepted("sft_config")
    assert names is not None
    assert sft.OWNED.keys() <= names


def test_values_that_trl_refuses_are_the_users_error(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.args: trl\.SFTConfig refuses"):
        build(tiny_model, tmp_path, args={"learning_rate": 0.1, "max_steps": 1, "logging_strategy": "often"})
    with pytest.raises(UserError, match="padding_free"):
        build(tiny_model, tmp_path, args={"padding_free": True})
