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

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from synthloop.chat import load_tokenizer
from synthloop.conversations import Unread
from synthloop.lora import is_residual
from synthloop.records import Row
from train import trainers
from train.pairs import PairTokens, cut_pairs, describe_pairs, read_pairs, tokenise_pairs
from train.rows import describe_changes

OWNED = {
    **trainers.OWNED,
    "dataset_num_proc": "rows are tokenised by train/pairs.py, in this process",
    "truncation_mode": "completions are cut at their end; `keep_end` would train on prompts that inference never sees",
    "padding_free": "TRL 1.16 ignores it in DPO",
}
"""Keys of DPOConfig that the user cannot set, and why."""


class Config(trainers.TrainerConfig):
    """Settings of the `dpo` objective; a key that upstream does not know, or that is ours to set, is refused."""

    @field_validator("args")
    @classmethod
    def _check_args(cls, args: dict[str, Any]) -> dict[str, Any]:
        return trainers.check_args(args, OWNED, "dpo_config")

    @field_validator("lora")
    @classmethod
    def _check_reference(cls, lora: dict[str, Any]) -> dict[str, Any]:
        """The reference is the model with its adapter off, which has to be the student."""
        if is_residual(lora):
            raise ValueError(
                f"'init_lora_weights' is {lora['init_lora_weights']!r}, which trains on what it leaves of the student: "
                "with the adapter off, the reference of dpo, that is not the student. Set it to true."
            )
        return lora

    @model_validator(mode="after")
    def _check_dropout(self) -> Config:
        if self.lora.get("lora_dropout") and self.args.get("disable_dropout", True):
            raise ValueError(
                f"lora.lora_dropout is {self.lora['lora_dropout']}, and TRL turns dropout off in dpo. Leave it out, or "
                "set train.args.disable_dropout=false to train with it."
            )
        return self


def read(path: Path, unread: Unread | None = None) -> list[Row]:
    """The pairs of `path`; what of it is not used is counted in `unread`. Raises `UserError`."""
    return read_pairs(path, unread)


def build_args(cfg: Config) -> Any:
    """The `trl.DPOConfig`. Raises `UserError`."""
    from trl import DPOConfig

    return trainers.training_args(DPOConfig, cfg)


def prepare(cfg: Config, tokenizer: Any, args: Any, rows: list[Row]) -> tuple[dict[str, Any], dict[str, int]]:
    """(columns as TRL takes them, counts): the pairs as they are trained, cut, without those that teach nothing.

    Raises:
        UserError: no pair that `max_length` leaves a difference.
    """
    pairs = tokenise_pairs(tokenizer, rows, **cfg.chat_template_kwargs)
    facts = describe_pairs(pairs, args.max_length)
    texts = [text for row in rows for text in (row.completion, str(row.rejected))]
    completions = [ids for one in pairs for ids in (one.chosen_ids, one.rejected_ids)]
    facts |= describe_changes(tokenizer, texts, completions, **cfg.chat_template_kwargs)
    kept = cut_pairs(pairs, args.max_length)
    return {field: [getattr(one, field) for one in kept] for field in PairTokens._fields}, facts


def show(tokenizer: Any, columns: Mapping[str, Any], place: int) -> dict[str, str]:
    """The text of a prepared pair, special tokens included."""
    return {field.removesuffix("_ids"): tokenizer.decode(columns[field][place]) for field in PairTokens._fields}


def build_trainer(cfg: Config, args: Any, rows: list[Row]) -> tuple[Any, dict[str, int]]:
    """(trl.DPOTrainer, counts of rows and tokens), ready to train; the model is loaded here.

    Raises:
        UserError: as `prepare`, or no tokenizer or model at `cfg.model`, or a bad LoRA or quantization setting.
    """
    tokenizer = load_tokenizer(cfg.tokenizer or cfg.model, cfg.revision)
    columns, facts = prepare(cfg, tokenizer, args, rows)
    trainers.tell_first(show(tokenizer, columns, 0))
    return trainers.build(tokenised_trainer(), cfg, args, tokenizer, columns), facts


def tokenised_trainer() -> Any:
    """`trl.DPOTrainer` on rows that are tokenised already, which `SFTTrainer` takes as they are and it does not.

    Where tokens merge across the boundary, TRL's own tokenisation drops the end of the prompt that inference sees.
    """
    from trl import DPOTrainer

    class TokenisedDPOTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    return TokenisedDPOTrainer
