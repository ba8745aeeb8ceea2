"""Engines: requests in, completions out. One file each; two verbs.

    engine.submit(request)      queue one request; returns at once
    engine.poll()               block until at least one completion is ready, return all that are; [] when idle

Completions come back in the order they finish. An engine module provides

    class Config(EngineConfig)                       its settings
    open(cfg, adapter=None) -> Engine                `adapter` is a PEFT LoRA folder to put on the model
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from synthloop.records import Completion, Request


class EngineConfig(BaseModel):
    """Settings every engine has.

    `model` is a hub id or a local folder; the word 'student' (in `roles`) means the accepted student.
    `args` are the engine's own arguments verbatim (vLLM `EngineArgs`), `sampling` the default `SamplingParams`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    revision: str | None = None
    tokenizer: str | None = None
    args: dict[str, Any] = {}
    sampling: dict[str, Any] = {}
    chat_template_kwargs: dict[str, Any] = {}


class Engine(Protocol):
    """What the driver and the evaluation talk to."""

    def submit(self, request: Request) -> None:
        """Queue `request`. Raises `UserError` if it can never be served (prompt longer than the context)."""

    def poll(self) -> list[Completion]:
        """Block until something finished and return it; an empty list means that nothing is in flight."""

    def close(self) -> None:
        """Free the device and stop any child process."""


def adapter_rank(adapter: Path) -> int:
    """The LoRA rank `r` of a PEFT adapter folder."""
    import json

    return int(json.loads((adapter / "adapter_config.json").read_text())["r"])
