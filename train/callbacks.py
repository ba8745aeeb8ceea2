"""What happens beside the training steps: complete checkpoints, a log that survives a kill, progress.

Imports transformers: import this module only in a process that trains.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from synthloop.errors import StageFailed
from synthloop.files import finite
from synthloop.progress import updates
from train.checkpoints import mark_complete

# Wall-clock facts and what the trainer adds up anew after a resume; they go into the stage's record instead.
_NOT_LOGGED = {"total_flos", "train_loss", "train_runtime", "train_samples_per_second", "train_steps_per_second"}


class Checkpoints(TrainerCallback):
    """Marks a checkpoint complete once every process has written its part.

    None is saved after the last step: the adapter itself is saved then, and resuming from a finished run would make
    the trainer take one step more where `max_steps` ends within an epoch.
    """

    def __init__(self, barrier: Callable[[], None]) -> None:
        self._barrier = barrier

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_step_end(args, state, control)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._barrier()
        if state.is_world_process_zero:
            mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class TrainerLog(TrainerCallback):
    """One JSON object a logging step into `path`, on a CPU the same bytes whether or not the training was resumed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the log anew from the checkpoint's history, so that no line is missing or double."""
        if state.log_history and self.trainer is not None:
            # TRL counts tokens from zero again after a resume.
            self.trainer._total_train_tokens = state.log_history[-1].get("num_tokens", 0)
        if state.is_world_process_zero:
            self._path.write_text("".join(map(_line, state.log_history)), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        refuse_divergence(state.log_history[-1], args)
        if state.is_world_process_zero and "train_runtime" not in state.log_history[-1]:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(_line(state.log_history[-1]))


def refuse_divergence(entry: dict[str, Any], args: Any) -> None:
    """Raise `StageFailed` where a step's gradient is no number: the weights after it are none either.

    transformers logs the loss of such a step as 0.0 (`logging_nan_inf_filter`). In fp16 an infinite gradient is common:
    that step is skipped and the loss scale lowered.
    """
    norm = entry.get("grad_norm")
    if norm is None or math.isfinite(norm) or args.fp16:
        return
    raise StageFailed(
        f"The training diverged: at step {entry['step']} the gradient's norm is {norm}, with a learning rate of "
        f"{entry.get('learning_rate', args.learning_rate):g}. Lower train.args.learning_rate, or set "
        "train.args.max_grad_norm and train.args.warmup_steps."
    )


def _line(entry: dict[str, Any]) -> str:
    """As a row of the run: what is not finite is null."""
    logged = {key: value for key, value in entry.items() if key not in _NOT_LOGGED}
    return json.dumps(finite(logged), sort_keys=True, allow_nan=False) + "\n"


class Progress(TrainerCallback):
    """Reports the steps done to whoever watches."""

    def __init__(self) -> None:
        self._update: Callable[[int], None] | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._update = self._update or updates(state.max_steps, "train")
            self._update(state.global_step)
