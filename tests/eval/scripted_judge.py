"""An engine that judges by rule, for tests: an answer is right where it holds the reference. `model` says how.

fair: so; chatty: so, in a fence amid words; harsh: nothing is right; mute: no JSON; hasty: cut off; mixed: mute on
every fifth reply.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from synthloop.engines import EngineConfig
from synthloop.records import Completion, Request

ASKED: list[Request] = []
REFUSED: set[str] = set()
"""Texts; a request that holds one is refused."""


class Config(EngineConfig):
    """Nothing of its own."""


class Judge:
    def __init__(self, model: str) -> None:
        self._model = model
        self._waiting: list[Request] = []

    def submit(self, request: Request) -> None:
        ASKED.append(request)
        self._waiting.append(request)

    def poll(self) -> list[Completion]:
        waiting, self._waiting = self._waiting, []
        return [self._reply(one) for one in waiting]

    def _reply(self, request: Request) -> Completion:
        made: dict[str, Any] = {"text": self._text(request)}
        made["finish_reason"] = "length" if self._model == "hasty" else "stop"
        if any(text in request.messages[-1]["content"] for text in REFUSED):
            made = {"text": "", "finish_reason": "error", "error": "refused"}
        return Completion(request_id=request.id, prompt_tokens=9, completion_tokens=3, **made)

    def _text(self, request: Request) -> str:
        asked = request.messages[-1]["content"]
        (reference,) = re.findall(r"<reference>\n(.*)\n</reference>", asked, re.DOTALL)
        (answer,) = re.findall(r"<answer>\n(.*)\n</answer>", asked, re.DOTALL)
        if self._model == "mute" or (self._model == "mixed" and answer.endswith(("0", "5"))):
            return "I think so."
        verdict = json.dumps({"reason": 'said "so"\n' * 99, "correct": self._model != "harsh" and reference in answer})
        if self._model == "hasty":
            return verdict[:20]
        return f"My verdict:\n```json\n{verdict}\n```\nGlad to help!" if self._model == "chatty" else verdict

    def close(self) -> None: ...


def open(cfg: Config, adapter: Path | None = None) -> Judge:
    return Judge(cfg.model)
