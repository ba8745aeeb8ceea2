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

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import field_validator

from synthloop.chat import load_tokenizer
from synthloop.conversations import Unread
from synthloop.records import Row
from train import trainers
from train.rows import (
    Tokens,
    completion_of,
    cut_rows,
    describe_changes,
    describe_lengths,
    describe_sequences,
    read_training_rows,
    sft_cut,
    tokenise,
)
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
        checked = trainers.check_args(args, OWNED, "sft_config")
        if args.get("packing") and "max_length" in args and args["max_length"] is None:
            raise ValueError("'packing' fills sequences of `max_length` tokens, which is null. Set args.max_length.")
        if args.get("packing") and args.get("truncation_mode") == "keep_end":
            raise ValueError("'truncation_mode' is not read by TRL where `packing` is set. Remove it.")
        return checked


def read(path: Path, unread: Unread | None = None) -> list[Row]:
    """The rows of `path`; what of it is not used is counted in `unread`. Raises `UserError`."""
    return read_training_rows(path, unread)


def build_args(cfg: Config) -> Any:
    """The `trl.SFTConfig`; the loss is on the completion only, unless `cfg.args` says otherwise. Raises `UserError`."""
    from trl import SFTConfig

    return trainers.training_args(SFTConfig, cfg, completion_only_loss=True)


def prepare(cfg: Config, tokenizer: Any, args: Any, rows: list[Row]) -> tuple[dict[str, Any], dict[str, int]]:
    """(columns as TRL takes them, counts): the rows as they are trained, cut, without those that nothing is left of.

    Raises:
        UserError: rows that all exceed `max_length`, or weights that can't be used.
    """
    tokens = tokenise(tokenizer, rows, **cfg.chat_template_kwargs)
    texts, completions = [row.completion for row in rows], [completion_of(one) for one in tokens]
    facts = describe_changes(tokenizer, texts, completions, **cfg.chat_template_kwargs)
    if not args.completion_only_loss:
        tokens = [Tokens(one.input_ids, [1] * len(one.input_ids)) for one in tokens]
    facts |= describe_lengths(tokens, sft_cut(args))
    cut = [(row, one) for row, one in zip(rows, cut_rows(tokens, sft_cut(args)), strict=True) if one.input_ids]
    kept = [one for _, one in cut]
    # TRL takes rows that already have `input_ids` as tokenised, and makes labels from `completion_mask`.
    columns: dict[str, Any] = {field: [getattr(one, field) for one in kept] for field in Tokens._fields}
    weights = token_weights([row for row, _ in cut], kept, args)
    if weights is not None:
        columns["weights"] = weights
        facts |= describe_weights([row for row, _ in cut])
    return columns, facts


def show(tokenizer: Any, columns: Mapping[str, Any], place: int) -> dict[str, str]:
    """The text of a prepared row: what is given, and what is learned, special tokens included."""
    ids, mask = columns["input_ids"][place], columns["completion_mask"][place]
    parts = {"prompt": 0, "completion": 1}
    return {
        name: tokenizer.decode([id for id, bit in zip(ids, mask, strict=True) if bit == which])
        for name, which in parts.items()
    }


def build_trainer(cfg: Config, args: Any, rows: list[Row]) -> tuple[Any, dict[str, int]]:
    """(trl.SFTTrainer, counts of rows and tokens), ready to train; the model is loaded here.

    Raises:
        UserError: as `prepare`, or no tokenizer or model at `cfg.model`, or a bad LoRA or quantization setting.
    """
    from trl import SFTTrainer

    tokenizer = load_tokenizer(cfg.tokenizer or cfg.model, cfg.revision)
    columns, facts = prepare(cfg, tokenizer, args, rows)
    trainers.tell_first(show(tokenizer, columns, 0))
    trainer_class = SFTTrainer if "weights" not in columns else weighted_trainer()
    trainer = trainers.build(trainer_class, cfg, args, tokenizer, columns)
    return trainer, facts | describe_sequences(trainer.train_dataset)
