"""Direct Preference Optimization (Rafailov et al., 2023, arXiv:2305.18290): LoRA adapters, TRL's `DPOTrainer`.

    accelerate launch --config_file configs/accelerate/single_gpu.yaml -m train.run \
        --config configs/recipes/preference.yaml --data runs/preference/round-001/curated.jsonl --output out \
        train.objective=dpo train.args.learning_rate=5.0e-6

    train:
      objective: dpo
      args: {learning_rate: 5.0e-6, beta: 0.1, per_device_train_batch_size: 8}             # trl.DPOConfig
      lora: {r: 16, lora_alpha: 32, target_modules: all-linear}                            # peft.LoraConfig

Every row is a pair (`train/pairs.py` has the formats). The reference is the model without the adapter, so `student` is
where the policy starts: a student that cannot do the task yet is to be fine-tuned, and merged, first. A key that is not
set has TRL's default, save those in `build_args`.
"""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import field_validator

from synthloop.chat import load_tokenizer
from synthloop.errors import UserError, did_you_mean
from synthloop.records import Row
from synthloop.upstream import accepted
from train.objectives import sft
from train.pairs import describe_pairs, read_pairs, tokenise_pairs

log = logging.getLogger("synthloop.train")

SFT_ONLY = ("chat_template_path", "eos_token", "assistant_only_loss", "dataset_text_field", "dataset_kwargs")

OWNED = {
    **{key: why for key, why in sft.OWNED.items() if key not in SFT_ONLY},
    "dataset_num_proc": "rows are tokenised by train/pairs.py, in this process",
    "truncation_mode": "completions are cut at their end; `keep_end` would train on prompts that inference never sees",
    "padding_free": "TRL 1.16 ignores it in DPO",
}
"""Keys of DPOConfig that the user cannot set, and why."""


class Config(sft.Config):
    """Settings of the `dpo` objective: those of `sft`, with `args` for `trl.DPOConfig`."""

    @field_validator("args")
    @classmethod
    def _check_args(cls, args: dict[str, Any]) -> dict[str, Any]:
        known = accepted("dpo_config")
        mistakes = [f"'{key}' cannot be set: {OWNED[key]}." for key in sorted(args.keys() & OWNED.keys())]
        for key in sorted(args.keys() - (known or args.keys())):
            mistakes.append(f"unknown key '{key}' of trl.DPOConfig. {did_you_mean(key, known or ())}")
        for key, value in args.items():
            if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
                mistakes.append(f"'{key}' is the text {value!r}: YAML reads numbers as 5.0e-3 or 0.005, not as 5e-3.")
        if mistakes:
            raise ValueError(" ".join(mistakes))
        return args


def read(path: Path) -> list[Row]:
    """The pairs of `path`. Raises `UserError`."""
    return read_pairs(path)


def build_args(cfg: Config) -> Any:
    """The `trl.DPOConfig`. Where several processes train, this joins their process group.

    Defaults of ours are those of `sft.build_args`, for the same reasons.

    Raises:
        UserError: DPOConfig refuses the values.
    """
    import torch
    from trl import DPOConfig

    on_cpu = cfg.args.get("use_cpu", not torch.accelerator.is_available())
    defaults = {
        "save_total_limit": 2,
        "seed": cfg.seed,
        "disable_tqdm": not sys.stderr.isatty(),
        **({"use_cpu": True, "bf16": False, "gradient_checkpointing": False} if on_cpu else {}),
    }
    owned = {"output_dir": str(cfg.output_dir), "report_to": "none"}
    try:
        return DPOConfig(**{**defaults, **cfg.args, **owned})
    except (TypeError, ValueError) as error:
        raise UserError(f"train.args: trl.DPOConfig refuses these settings: {error}") from error


def build_trainer(cfg: Config, args: Any, rows: list[Row]) -> tuple[Any, dict[str, int]]:
    """(trl.DPOTrainer, counts of rows and tokens), ready to train; the model is loaded here.

    Raises:
        UserError: no tokenizer or model at `cfg.model`, a bad LoRA or quantization setting, or rows that all exceed
            `max_length`.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig

    tokenizer = load_tokenizer(cfg.tokenizer or cfg.model, cfg.revision)
    pairs = tokenise_pairs(tokenizer, rows, **cfg.chat_template_kwargs)
    facts = describe_pairs(pairs, args.max_length)
    whole = [one for one in pairs if args.max_length is None or len(one.prompt_ids) < args.max_length]
    columns = {field: [getattr(one, field) for one in whole] for field in ("prompt_ids", "chosen_ids", "rejected_ids")}
    if len({row.weight for row in rows}) > 1:
        weighted = sum(row.weight != 1 for row in rows)
        log.warning("train: %d of %d rows have a weight other than 1, which dpo does not use.", weighted, len(rows))
    args.model_init_kwargs = {"revision": cfg.revision, **(args.model_init_kwargs or {})}
    try:
        trainer = tokenised_trainer()(
            model=cfg.model,
            args=args,
            train_dataset=Dataset.from_dict(columns),
            processing_class=tokenizer,
            peft_config=LoraConfig(**{"task_type": "CAUSAL_LM", **cfg.lora}),
            quantization_config=BitsAndBytesConfig(**cfg.quantization) if cfg.quantization else None,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"The trainer of '{cfg.model}' cannot be built: {error}") from error
    return trainer, facts


def tokenised_trainer() -> Any:
    """`trl.DPOTrainer` on rows that are tokenised already, which `SFTTrainer` takes as they are and it does not.

    Where tokens merge across the boundary, TRL's own tokenisation drops the end of the prompt that inference sees.
    """
    from trl import DPOTrainer

    class TokenisedDPOTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    return TokenisedDPOTrainer
