"""The errors a user can meet, and the exit code of each.

SynthloopError
├── UserError        exit 2: the user's mistake; shown as one message, no traceback
├── CollapseStop     exit 3: the collapse guard stopped the run
└── StageFailed      exit 4: a stage's child process failed, or every engine of a role died
"""

from __future__ import annotations

import difflib
import errno
import sqlite3
import sys
from collections.abc import Iterable

from synthloop.credentials import without_credentials


class SynthloopError(Exception):
    """Base of every error this project raises on purpose. Passwords and keys in URLs are hidden in its message."""

    exit_code = 4

    def __init__(self, message: str = "") -> None:
        super().__init__(without_credentials(message))


class UserError(SynthloopError):
    """A mistake of the user's: where it is, what was found, what was expected, what to type next."""

    exit_code = 2


class CollapseStop(SynthloopError):
    """The collapse guard stopped the run; the best adapter is kept."""

    exit_code = 3


class StageFailed(SynthloopError):
    """A stage could not finish; the run can be resumed by the same command."""

    exit_code = 4


FULL = (errno.ENOSPC, errno.EDQUOT)
LOCKED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)

MAKE_ROOM = (
    "For a training, turn down train.args.per_device_train_batch_size (and raise gradient_accumulation_steps by as "
    "much) or train.args.max_length; for an engine, args.gpu_memory_utilization or args.max_model_len; for a filter's "
    "own model, its batch_size or max_length. nvidia-smi shows whether another program holds the GPU."
)


def known_error(error: Exception) -> SynthloopError | None:
    """`error` itself where it is ours, the `StageFailed` to show for a disk that does not take what is written to it,
    None for anything else.

    Compiled libraries (safetensors) and compilers tell of a full disk in errors of their own, hence the text.
    """
    if isinstance(error, SynthloopError):
        return error
    number = error.errno if isinstance(error, OSError) else None
    sqlite = getattr(error, "sqlite_errorname", "") if isinstance(error, sqlite3.Error) else ""
    no_space = next((line for line in str(error).splitlines() if "No space left on device" in line), None)
    if number in FULL or sqlite == "SQLITE_FULL" or no_space:
        return StageFailed(f"The disk is full ({no_space or error}). Free some space and run it again.")
    if number in LOCKED or sqlite.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return StageFailed(f"No access ({error}). Let this user write there, or go on with a copy of the folder.")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return StageFailed(f"The GPU's memory is full: {str(error).splitlines()[0]}\n{MAKE_ROOM}")
    if number == errno.EIO or sqlite.startswith("SQLITE_IOERR"):
        return StageFailed(f"The disk fails, or is full ({error}). See to it and run it again.")
    return None


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


def visible(name: str) -> str:
    """`name` with characters that can't be seen, or told from a space, as escapes."""
    return name if name.isprintable() else ascii(name)[1:-1]


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """A sentence naming what `found` is called here or the closest of `known`; the known names when none is close."""
    names = sorted(known)
    alias = ALIASES.get(found, "")
    if alias.partition(":")[0] in names:
        return f"Did you mean '{alias}'?"
    close = difflib.get_close_matches(found, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{visible(close[0])}'?"
    return f"Known: {', '.join(map(visible, names))}." if len(names) <= 30 else ""
