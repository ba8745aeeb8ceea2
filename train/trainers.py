"""What objectives on TRL's trainers share: settings that are checked, our defaults, the model with its LoRA."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import field_validator

from synthloop import launch, upstream
from synthloop.errors import UserError
from synthloop.screen import shortened
from train.objectives import ObjectiveConfig

log = logging.getLogger("synthloop.train")

OWNED = {
    "output_dir": "checkpoints go into the run directory (--output when train.run is used by itself)",
    "resume_from_checkpoint": "the same command resumes from the last complete checkpoint by itself",
    "seed": "set `seed` of the config; each round derives its own from it",
    "data_seed": "set `seed` of the config; each round derives its own from it",
    "report_to": "the loop tracks the run; see `tracking` in the config and trainer_log.jsonl",
    "save_only_model": "a checkpoint without the optimizer cannot be resumed from",
    "ignore_data_skip": "a resumed run would train on other batches than one that was never stopped",
    "eval_strategy": "the eval stage evaluates on held-out real data; there is no evaluation set in training",
}
"""Keys of every TRL config class that the user cannot set, and why."""


class TrainerConfig(ObjectiveConfig):
    """Settings of an objective on a TRL trainer; what PEFT and bitsandbytes do not take is refused."""

    @field_validator("lora")
    @classmethod
    def _check_lora(cls, lora: dict[str, Any]) -> dict[str, Any]:
        return _taken(lora, "lora_config")

    @field_validator("quantization")
    @classmethod
    def _check_quantization(cls, quantization: dict[str, Any] | None) -> dict[str, Any] | None:
        return _taken(quantization, "bitsandbytes_config") if quantization else quantization


def _taken(settings: dict[str, Any], kind: upstream.Kind) -> dict[str, Any]:
    mistakes = upstream.mistakes(kind, settings)
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return settings


def check_args(args: dict[str, Any], owned: Mapping[str, str], kind: upstream.Kind) -> dict[str, Any]:
    """`args`, when the config class of TRL takes them all. Raises `ValueError` with a line for every mistake."""
    mistakes = [f"'{key}' cannot be set: {owned[key]}." for key in sorted(args.keys() & owned.keys())]
    mistakes += upstream.mistakes(kind, {key: value for key, value in args.items() if key not in owned})
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return args


def training_args(config_class: Any, cfg: ObjectiveConfig, **defaults: Any) -> Any:
    """A `config_class` of TRL. Where several processes train, this joins their process group.

    Defaults of ours, each overridden by the same key in `cfg.args`: two checkpoints kept, so that there is one to
    resume from while the next is being written; without an accelerator, or where the launcher was told to use the CPU
    (TRL puts batches on the GPU then and accelerate the model on the CPU), `use_cpu`, full precision, because emulated
    bfloat16 is slower there, and no gradient checkpointing, as memory is not what is short. An objective's `defaults`
    come on top.

    Raises:
        UserError: the class refuses the values.
    """
    import torch

    on_cpu = cfg.args.get("use_cpu", launch.on_cpu() or not torch.accelerator.is_available())
    ours = {
        "save_total_limit": 2,
        "seed": cfg.seed,
        "disable_tqdm": not sys.stderr.isatty(),
        **({"use_cpu": True, "bf16": False, "gradient_checkpointing": False} if on_cpu else {}),
    }
    owned = {"output_dir": str(cfg.output_dir), "report_to": "none"}
    try:
        return config_class(**{**ours, **defaults, **cfg.args, **owned})
    except (TypeError, ValueError) as error:
        raise UserError(f"train.args: trl.{config_class.__name__} refuses these settings: {error}") from error


def build(trainer_class: Any, cfg: ObjectiveConfig, args: Any, tokenizer: Any, columns: Mapping[str, Any]) -> Any:
    """A `trainer_class` of TRL on rows of `columns`; the model is loaded here, with a LoRA, quantised where asked.

    Raises:
        UserError: no model at `cfg.model`, or a bad LoRA or quantization setting.
    """
    _refuse_unsharded(cfg)
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig

    # TRL loads the frozen weights in float32 otherwise: twice the memory, and cast anew in every step. PEFT keeps the
    # LoRA's own in float32.
    dtype = {"dtype": "bfloat16"} if args.bf16 else {}
    args.model_init_kwargs = {"revision": cfg.revision, **dtype, **(args.model_init_kwargs or {})}
    try:
        trainer = trainer_class(
            model=cfg.model,
            args=args,
            train_dataset=Dataset.from_dict(dict(columns)),
            processing_class=tokenizer,
            peft_config=LoraConfig(**{"task_type": "CAUSAL_LM", **cfg.lora}),
            quantization_config=None if cfg.quantization is None else BitsAndBytesConfig(**cfg.quantization),
        )
    except (OSError, ValueError) as error:
        raise UserError(f"The trainer of '{cfg.model}' cannot be built: {error}") from error
    _refuse_unknown_tokens(trainer.model.config.get_text_config().vocab_size, tokenizer, columns)
    return trainer


def _refuse_unknown_tokens(vocab_size: int, tokenizer: Any, columns: Mapping[str, Any]) -> None:
    """Raise `UserError` where rows have tokens that the model has no embedding for."""
    ids = (id for name, rows in columns.items() if name.endswith("ids") for row in rows for id in row)
    largest = max(tokenizer.pad_token_id or 0, *ids)
    if largest >= vocab_size:
        raise UserError(
            f"The rows have the token {tokenizer.decode([largest])!r} with the id {largest}, and the vocabulary of the "
            f"model ends before it (vocab_size {vocab_size}). Take the tokenizer that belongs to the model, or enlarge "
            "the model and save it anew (model.resize_token_embeddings(len(tokenizer)))."
        )


def tell_first(shown: Mapping[str, str]) -> None:
    """Log the first row as it is trained: a wrong field or a missing end token shows at a glance."""
    for name, text in shown.items():
        log.info("train: first row, %s: %s", name, shortened(text))


def _refuse_unsharded(cfg: ObjectiveConfig) -> None:
    """Raise `UserError` for 4-bit weights under FSDP that Accelerate would leave whole on every GPU."""
    is_sharded = os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1")
    settings = cfg.quantization or {}
    if is_sharded and settings.get("load_in_4bit") and "float" not in str(settings.get("bnb_4bit_quant_storage")):
        raise UserError(
            "train.quantization: FSDP does not shard 4-bit weights that are stored as whole numbers: every GPU would "
            "hold the whole model. Set bnb_4bit_quant_storage: bfloat16, or train with configs/accelerate/ddp.yaml."
        )
