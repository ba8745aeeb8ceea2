"""The errors a user can meet, and the exit code of each.

SynthloopError
├── UserError        exit 2: the user's mistake; shown as one message, no traceback
├── CollapseStop     exit 3: the collapse guard stopped the run
└── StageFailed      exit 4: a stage's child process failed, or every engine of a role died
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SynthloopError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 4


class UserError(SynthloopError):
    """A mistake of the user's: where it is, what was found, what was expected, what to type next."""

    exit_code = 2


class CollapseStop(SynthloopError):
    """The collapse guard stopped the run; the best adapter is kept."""

    exit_code = 3


class StageFailed(SynthloopError):
    """A stage could not finish; the run can be resumed by the same command."""

    exit_code = 4


ALIASES = {
    "rank": "r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "lora_rank": "r",
    "lora_r": "r",
    "lora_target": "target_modules",
    "temp": "temperature",
    "max_new_tokens": "max_tokens",
    "max_length": "max_tokens",
    "num_return_sequences": "n",
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "micro_batch_size": "per_device_train_batch_size",
    "grad_accum": "gradient_accumulation_steps",
    "scheduler": "lr_scheduler_type",
    "lr_scheduler": "lr_scheduler_type",
    "optimizer": "optim",
    "max_seq_length": "max_length",
    "cutoff_len": "max_length",
    "sequence_len": "max_length",
    "group_by_length": "train_sampling_strategy: group_by_length",
    "warmup_ratio": "warmup_steps",
    "context_length": "max_model_len",
    "max_seq_len": "max_model_len",
    "tp": "tensor_parallel_size",
    "dp": "data_parallel_size",
    "torch_dtype": "dtype",
}
"""What other tools of the field call a setting -> what it is called here; used where the right name is known."""


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """A sentence naming what `found` is called here or the closest of `known`; the known names when none is close."""
    names = sorted(known)
    alias = ALIASES.get(found, "")
    if alias.partition(":")[0] in names:
        return f"Did you mean '{alias}'?"
    close = difflib.get_close_matches(found, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known: {', '.join(names)}." if len(names) <= 30 else ""
