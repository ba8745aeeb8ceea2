"""Supervised fine-tuning: next-token loss on the completion, LoRA adapters, TRL's `SFTTrainer`.

    train:
      objective: sft
      args: {learning_rate: 1.0e-4, num_train_epochs: 2, per_device_train_batch_size: 8}    # trl.SFTConfig
      lora: {r: 16, lora_alpha: 32, target_modules: all-linear}                            # peft.LoraConfig
      quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4}                          # BitsAndBytesConfig: QLoRA

A key that is not set has TRL's default, save those in `build_args`. Rows of different weight train by the weighted mean
of their tokens' losses (`train/weights.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import field_validator

from synthloop.chat import load_tokenizer
from synthloop.records import Row
from train import trainers
from train.rows import completion_of, describe_changes, describe_lengths, read_training_rows, tokenise
from train.weights import describe_weights, token_weights, weighted_trainer

OWNED = {
    **trainers.OWNED,
    "chat_template_path": "evaluation reads the template of the student's tokenizer; change it there",
    "eos_token": "evaluation reads the tokenizer's own end token; change it there",
    "assistant_only_loss": "the loss is on the last assistant turn; set completion_only_loss: false for the whole text",
    "dataset_text_field": "rows are messages and completions; see train/rows.py for the formats",
    "dataset_kwargs": "rows are tokenised by train/rows.py, so that training and inference see the same prompt",
}
"""Keys of SFTConfig that the user cannot set, and why."""


class Config(trainers.TrainerConfig):
    """Settings of the `sft` objective; a key that upstream does not know, or that is ours to set, is refused."""

    @field_validator("args")
    @classmethod
    def _check_args(cls, args: dict[str, Any]) -> dict[str, Any]:
        return trainers.check_args(args, OWNED, "sft_config")


def read(path: Path) -> list[Row]:
    """The rows of `path`. Raises `UserError`."""
    return read_training_rows(path)


def build_args(cfg: Config) -> Any:
    """The `trl.SFTConfig`; the loss is on the completion only, unless `cfg.args` says otherwise. Raises `UserError`."""
    from trl import SFTConfig

    return trainers.training_args(SFTConfig, cfg, completion_only_loss=True)


def build_trainer(cfg: Config, args: Any, rows: list[Row]) -> tuple[Any, dict[str, int]]:
    """(trl.SFTTrainer, counts of rows and tokens), ready to train; the model is loaded here.

    Raises:
        UserError: no tokenizer or model at `cfg.model`, a bad LoRA or quantization setting, rows that all exceed
            `max_length`, or weights that can't be used.
    """
    from trl import SFTTrainer

    tokenizer = load_tokenizer(cfg.tokenizer or cfg.model, cfg.revision)
    tokens = tokenise(tokenizer, rows, **cfg.chat_template_kwargs)
    facts = describe_lengths(tokens, args.max_length)
    texts, completions = [row.completion for row in rows], [completion_of(one) for one in tokens]
    facts |= describe_changes(tokenizer, texts, completions, **cfg.chat_template_kwargs)
    # TRL takes rows that already have `input_ids` as tokenised, and makes labels from `completion_mask`.
    columns: dict[str, Any] = {
        field: [getattr(row, field) for row in tokens] for field in ("input_ids", "completion_mask")
    }
    weights = token_weights(rows, tokens, args)
    if weights is not None:
        columns["weights"] = weights
        facts |= describe_weights(rows)
    trainer_class = SFTTrainer if weights is None else weighted_trainer()
    return trainers.build(trainer_class, cfg, args, tokenizer, columns), facts
