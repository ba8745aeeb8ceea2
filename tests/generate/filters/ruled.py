"""An engine whose replies a test states as functions, for the known answers of filters that ask models.

ctx = ruled.context(tmp_path, reply=lambda model, request: "#### 5")
ctx = ruled.context(tmp_path, logprob=lambda text: -0.5)    # every token of a scored text, by its decoded whole
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from generate.curation import FilterContext
from synthloop.chat import load_tokenizer
from synthloop.engines import EngineConfig
from synthloop.records import Completion, Request
from tests.generate.runs import build_run

MODELS = ("quickstart/student", "quickstart/teacher", "quickstart/reward")


class Config(EngineConfig):
    """Nothing beyond the model's name."""


class Rules:
    """What the engines answer by, and what they were asked."""

    reply: ClassVar[Callable[[str, Request], str]]
    logprob: ClassVar[Callable[[str], float]]
    asked: ClassVar[list[tuple[str, Request]]] = []


class Ruled:
    """Answers one request a poll, in their order. A reply that ends in '…' counts as truncated."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._queue: list[Request] = []

    def submit(self, request: Request) -> None:
        Rules.asked.append((self._model, request))
        self._queue.append(request)

    def poll(self) -> list[Completion]:
        return [self._answer(self._queue.pop(0))] if self._queue else []

    def _answer(self, request: Request) -> Completion:
        ids = request.prompt_token_ids
        text = Rules.reply(self._model, request) if ids is None else ""
        return Completion(
            request_id=request.id,
            text=text,
            finish_reason="length" if text.endswith("…") or ids else "stop",
            prompt_tokens=len(ids or ()),
            completion_tokens=1,
            prompt_logprobs=None if ids is None else (None, *[Rules.logprob(decode(ids))] * (len(ids) - 1)),
        )

    def close(self) -> None:
        pass


def open(cfg: Config, adapter: Path | None = None) -> Ruled:
    return Ruled(cfg.model)


def decode(ids: Sequence[int]) -> str:
    """The text of a request for a likelihood, special tokens and all."""
    return str(load_tokenizer("quickstart/student").decode(list(ids)))


def context(
    folder: Path,
    *,
    reply: Callable[[str, Request], str] = lambda model, request: "",
    logprob: Callable[[str], float] = lambda text: -0.5,
    roles: Sequence[str] = ("judge", "teacher"),
    judges: int = 1,
    **changes: Any,
) -> FilterContext:
    """A run of round 1 whose `roles` answer by the rules; `judges` of them play the role 'judge'."""
    Rules.reply, Rules.logprob, Rules.asked = staticmethod(reply), staticmethod(logprob), []
    one = [{"engine": "tests.generate.filters.ruled", "model": model} for model in MODELS]
    players = {role: one[:judges] if role == "judge" else one[:1] for role in roles}
    player = {"model": MODELS[0], "engine": "tests.generate.filters.ruled"}
    run = build_run(folder, roles=players, student=player, **changes)
    return FilterContext(run, 1)
