"""Training data and jobs the tests share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from synthloop.config import TrainJob, parse
from synthloop.records import Message, Row
from train.run import configure, fit

ADDITIONS = [(a, b) for a in range(1, 9) for b in range(2, 8)]


def example_rows(count: int = 48) -> list[Row]:
    """Additions in words; the completions have different lengths."""
    return [
        Row(
            id=f"row-{index}",
            source="real",
            messages=(Message(role="user", content=f"Tom has {a} apples and buys {b} more. How many apples?"),),
            completion=f"Tom has {a} + {b} = {a + b} apples. #### {a + b}" if index % 3 else f"#### {a + b}",
        )
        for index, (a, b) in enumerate((ADDITIONS * 9)[:count])
    ]


def write_data(path: Path, count: int = 48) -> Path:
    """The rows as a user would write them."""
    with path.open("w", encoding="utf-8") as stream:
        for row in example_rows(count):
            turns = [*row.messages, Message(role="assistant", content=row.completion)]
            stream.write(json.dumps({"messages": turns}) + "\n")
    return path


def write_job(path: Path, model: Path, **train: Any) -> Path:
    """A job of 24 steps in two epochs; `train` adds to or replaces its sections."""
    args = {
        "learning_rate": 0.01,
        "num_train_epochs": 4,
        "per_device_train_batch_size": 8,
        "gradient_checkpointing": False,
        "logging_steps": 2,
        **train.pop("args", {}),
    }
    # Dropout makes the random state part of what a resumed run must restore.
    lora = {"r": 8, "target_modules": "all-linear", "lora_dropout": 0.1}
    job = {"student": {"model": str(model)}, "seed": 3, "train": {"args": args, "lora": lora, **train}}
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def train(
    model: Path, folder: Path, args: dict[str, Any] | None = None, *, engine: str = "vllm_offline", **lora: Any
) -> Path:
    """The adapter of a few steps in this process, with `logprobs.json` beside it."""
    settings = {"max_steps": 3, "learning_rate": 0.02, "per_device_train_batch_size": 4, "logging_steps": 1}
    section = {
        "args": {**settings, "gradient_checkpointing": False, "save_strategy": "no", **(args or {})},
        "lora": {"r": 4, "target_modules": "all-linear", **lora},
    }
    job = parse(TrainJob, {"student": {"model": str(model), "engine": engine}, "seed": 3, "train": section}, "job")
    folder.mkdir(parents=True, exist_ok=True)
    objective, config = configure(job, folder, job.seed)
    fit(objective, config, objective.build_args(config), example_rows(12), folder)
    return folder / "adapter"
