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

import re
import sys
from pathlib import Path
from typing import Any

from pydantic import field_validator

from synthloop.chat import load_tokenizer
from synthloop.errors import UserError, did_you_mean
from synthloop.records import Row
from synthloop.upstream import Kind, accepted
from train.objectives import ObjectiveConfig
from train.rows import describe_lengths, read_training_rows, tokenise
from train.weights import describe_weights, token_weights, weighted_trainer

OWNED = {
    "output_dir": "checkpoints go into the run directory (--output when train.run is used by itself)",
    "resume_from_checkpoint": "the same command resumes from the last complete checkpoint by itself",
    "seed": "set `seed` of the config; each round derives its own from it",
    "data_seed": "set `seed` of the config; each round derives its own from it",
    "report_to": "the loop tracks the run; see `tracking` in the config and trainer_log.jsonl",
    "save_only_model": "a checkpoint without the optimizer cannot be resumed from",
    "ignore_data_skip": "a resumed run would train on other batches than one that was never stopped",
    "chat_template_path": "evaluation reads the template of the student's tokenizer; change it there",
    "eos_token": "evaluation reads the tokenizer's own end token; change it there",
    "assistant_only_loss": "the loss is on the last assistant turn; set completion_only_loss: false for the whole text",
    "dataset_text_field": "rows are messages and completions; see train/rows.py for the formats",
    "dataset_kwargs": "rows are tokenised by train/rows.py, so that training and inference see the same prompt",
    "eval_strategy": "the eval stage evaluates on held-out real data; there is no evaluation set in training",
}
"""Keys of SFTConfig that the user cannot set, and why."""


class Config(ObjectiveConfig):
    """Settings of the `sft` objective; a key that upstream does not know, or that is ours to set, is refused."""

    @field_validator("args")
    @classmethod
    def _check_args(cls, args: dict[str, Any]) -> dict[str, Any]:
        for key in args.keys() & OWNED.keys():
            raise ValueError(f"'{key}' cannot be set: {OWNED[key]}")
        for key, value in args.items():
            if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
                raise ValueError(f"'{key}' is the text {value!r}: YAML reads numbers as 5.0e-3 or 0.005, not as 5e-3")
        return _known(args, "sft_config", "trl.SFTConfig")

    @field_validator("lora")
    @classmethod
    def _check_lora(cls, lora: dict[str, Any]) -> dict[str, Any]:
        return _known(lora, "lora_config", "peft.LoraConfig")

    @field_validator("quantization")
    @classmethod
    def _check_quantization(cls, quantization: dict[str, Any] | None) -> dict[str, Any] | None:
        return _known(quantization, "bitsandbytes_config", "BitsAndBytesConfig") if quantization else quantization


def _known(settings: dict[str, Any], kind: Kind, name: str) -> dict[str, Any]:
    """`settings`, when every key is one that upstream accepts. Raises `ValueError` naming all that are not."""
    known = accepted(kind)
    unknown = sorted(settings.keys() - known) if known is not None else []
    if unknown:
        raise ValueError(
            " ".join(f"unknown key '{key}' of {name}. {did_you_mean(key, known or ())}" for key in unknown)
        )
    return settings


def read(path: Path) -> list[Row]:
    """The rows of `path`. Raises `UserError`."""
    return read_training_rows(path)


def build_args(cfg: Config) -> Any:
    """The `trl.SFTConfig`. Where several processes train, this joins their process group.

    Defaults of ours, each overridden by the same key in `cfg.args`: loss on the completion only; two checkpoints kept,
    so that there is one to resume from while the next is being written; without an accelerator `use_cpu`, full
    precision, because emulated bfloat16 is slower there, and no gradient checkpointing, as memory is not what is short.

    Raises:
        UserError: SFTConfig refuses the values.
    """
    import torch
    from trl import SFTConfig

    on_cpu = cfg.args.get("use_cpu", not torch.accelerator.is_available())
    defaults = {
        "completion_only_loss": True,
        "save_total_limit": 2,
        "seed": cfg.seed,
        "disable_tqdm": not sys.stderr.isatty(),
        **({"use_cpu": True, "bf16": False, "gradient_checkpointing": False} if on_cpu else {}),
    }
    owned = {"output_dir": str(cfg.output_dir), "report_to": "none"}
    try:
        return SFTConfig(**{**defaults, **cfg.args, **owned})
    except (TypeError, ValueError) as error:
        raise UserError(f"train.args: trl.SFTConfig refuses these settings: {error}") from error


def build_trainer(cfg: Config, args: Any, rows: list[Row]) -> tuple[Any, dict[str, int]]:
    """(trl.SFTTrainer, counts of rows and tokens), ready to train; the model is loaded here.

    Raises:
        UserError: no tokenizer or model at `cfg.model`, a bad LoRA or quantization setting, rows that all exceed
            `max_length`, or weights that can't be used.
    """
    from datasets import Dataset
    from trl import SFTTrainer

    tokenizer = load_tokenizer(cfg.tokenizer or cfg.model, cfg.revision)
    tokens = tokenise(tokenizer, rows, **cfg.chat_template_kwargs)
    facts = describe_lengths(tokens, args.max_length)
    columns: dict[str, Any] = {
        field: [getattr(row, field) for row in tokens] for field in ("input_ids", "completion_mask")
    }
    weights = token_weights(rows, tokens, args)
    if weights is not None:
        columns["weights"] = weights
        facts |= describe_weights(rows)
    args.model_init_kwargs = {"revision": cfg.revision, **(args.model_init_kwargs or {})}
    try:
        trainer = (SFTTrainer if weights is None else weighted_trainer())(
            model=cfg.model,
            args=args,
            # TRL takes rows that already have `input_ids` as tokenised, and makes labels from `completion_mask`.
            train_dataset=Dataset.from_dict(columns),
            processing_class=tokenizer,
            peft_config=_lora_config(cfg),
            quantization_config=_quantization_config(cfg),
        )
    except (OSError, ValueError) as error:
        raise UserError(f"The trainer of '{cfg.model}' cannot be built: {error}") from error
    return trainer, facts


def _lora_config(cfg: Config) -> Any:
    from peft import LoraConfig

    return LoraConfig(**{"task_type": "CAUSAL_LM", **cfg.lora})


def _quantization_config(cfg: Config) -> Any:
    if cfg.quantization is None:
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(**cfg.quantization)
