"""An engine for tests, named in a config by its dotted path: it answers by rule, in a shuffled order, and takes notes.

    Member("a", "tests.generate.scripted", Config(model="a"), ...)

Where JSON of a schema is asked for, the reply is an instance of it; else it names the model and the sampling seed.
A text to be scored has log-probabilities of -0.5 a token.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, ClassVar

from generate.rehearsal import instance
from synthloop.engines import EngineConfig
from synthloop.records import Completion, Request


class Config(EngineConfig):
    """`args`: `shuffle` (seed of the order of completions), `die_after` (number of replies)."""


class Log:
    """What all scripted engines of a test saw."""

    asked: ClassVar[list[tuple[str, Request]]] = []
    events: ClassVar[list[str]] = []
    most_in_flight = 0

    @classmethod
    def clear(cls) -> None:
        cls.asked, cls.events, cls.most_in_flight = [], [], 0


class Killed(Exception):
    """Stands for the SIGKILL of the process."""


class Scripted:
    """Replies in a random order, a few at a time."""

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._rng = random.Random(cfg.args.get("shuffle", 0))
        self._queue: list[Request] = []
        self._answered = 0

    def submit(self, request: Request) -> None:
        self._queue.append(request)
        Log.asked.append((self._cfg.model, request))
        Log.most_in_flight = max(Log.most_in_flight, len(self._queue))

    def poll(self) -> list[Completion]:
        if self._answered >= self._cfg.args.get("die_after", float("inf")):
            raise Killed
        size = min(len(self._queue), self._rng.randint(1, 4))
        taken = [self._queue.pop(self._rng.randrange(len(self._queue))) for _ in range(size)]
        self._answered += size
        return [self._reply(request) for request in taken]

    def _reply(self, request: Request) -> Completion:
        if request.prompt_token_ids is not None:
            logprobs = (None, *[-0.5] * (len(request.prompt_token_ids) - 1))
            return Completion(
                request_id=request.id,
                text="",
                finish_reason="length",
                prompt_tokens=len(logprobs),
                completion_tokens=1,
                prompt_logprobs=logprobs,
            )
        text = request.messages[-1]["content"]
        if "unservable" in text:
            return Completion(
                request_id=request.id,
                text="",
                finish_reason="error",
                prompt_tokens=0,
                completion_tokens=0,
                error="too long",
            )
        value = request.sampling.get("seed", 0)
        guide = request.sampling.get("structured_outputs", {}).get("json")
        reply = json.dumps(instance(guide, value)) if guide else f"[{self._cfg.model} {value} to {text[:20]}]"
        finish: Any = "length" if "endless" in text else "stop"
        return Completion(request_id=request.id, text=reply, finish_reason=finish, prompt_tokens=7, completion_tokens=3)

    def close(self) -> None:
        Log.events.append(f"close {self._cfg.model}")


ROLE: dict[str, Any] = {"engine": "tests.generate.scripted", "model": "quickstart/student"}
"""A role of a config, with a model whose tokenizer can be loaded."""


def open(cfg: Config, adapter: Path | None = None) -> Scripted:
    Log.events.append(f"open {cfg.model}")
    return Scripted(cfg)
