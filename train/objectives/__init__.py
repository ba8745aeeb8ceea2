"""Objectives: what is optimised, on which rows. One file each.

An objective module provides

    class Config(ObjectiveConfig)                            its settings; refuses what it cannot honour
    Row                                                      the record it trains on
    read(path, unread) -> list[Row]                          rows of the loop or of a user's JSONL; raises UserError.
                                                             What it does not use it counts in `unread`
    build_args(cfg) -> TrainingArguments                     before anything is loaded; joins the process group
    prepare(cfg, tokenizer, args, rows) -> (columns, facts)  the rows as they are trained
    show(tokenizer, columns, place) -> {name: text}          one of them, to be read by a person
    build_trainer(cfg, args, rows) -> (Trainer, facts)       ready to train; facts go into the stage's record

Only `build_args` and `build_trainer` import torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class ObjectiveConfig(BaseModel):
    """What every objective is given.

    `args` goes verbatim to the trainer's config class, `lora` to `peft.LoraConfig`, `quantization` to
    `transformers.BitsAndBytesConfig`. `model` is a hub id or folder; `tokenizer` likewise, and `model` where it is
    None. `output_dir` receives the checkpoints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    args: dict[str, Any] = {}
    lora: dict[str, Any] = {}
    quantization: dict[str, Any] | None = None
    model: str = ""
    revision: str | None = None
    tokenizer: str | None = None
    chat_template_kwargs: dict[str, Any] = {}
    output_dir: Path = Path("checkpoints")
    seed: int = 0
