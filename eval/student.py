"""The student under evaluation: one engine, opened when first asked, and what its answers are worth."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from eval import judging
from synthloop import plugins, progress
from synthloop.engines import Engine, EngineConfig, complete_all
from synthloop.errors import UserError
from synthloop.randomness import derive_seed
from synthloop.records import Completion, Example, Prediction, Request, Score
from synthloop.store import Run
from synthloop.task import Task

log = logging.getLogger("synthloop.eval")


class Answers(NamedTuple):
    """Predictions in the order of the examples; `errors` maps the ids the engine refused to its message."""

    predictions: list[Prediction]
    errors: dict[str, str]


class Student:
    """The student with the adapter of a round (None: as it is), loaded at the first `ask`.

    Replies are not journaled: a killed evaluation asks all of it again, in the same batches, and so ends the same.
    """

    def __init__(self, run: Run, adapter: Path | None) -> None:
        self.run = run
        self.seed = run.config.seed
        self.config: EngineConfig = run.config.student.engine_config()
        self._module = plugins.load("engine", run.config.student.engine)
        self._adapter = adapter
        self._engine: Engine | None = None
        self._usage = dict.fromkeys(("requests", "prompt_tokens", "completion_tokens"), 0)
        if adapter is not None and not adapter.is_dir():
            raise UserError(f"{adapter}: no such adapter. Run stage `train` of that round first.")

    def use(self, adapter: Path) -> None:
        """Answer with another adapter, of the same rank, from now on; the engine stays open where it can switch."""
        self._adapter = adapter
        if self._engine is not None and hasattr(self._engine, "use"):
            self._engine.use(adapter)
        else:
            self.close()

    def close(self) -> None:
        """Free the device; the next `ask` loads the student again."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def ask(self, requests: Sequence[Request], what: str) -> list[Completion]:
        """The reply to each request, in their order."""
        if self._engine is None:
            self._engine = self._module.open(self.config, adapter=self._adapter)
        update = progress.updates(len(requests), what)
        replies = complete_all(self._engine, requests, on_progress=lambda done, total: update(done))
        self._usage["requests"] += len(replies)
        self._usage["prompt_tokens"] += sum(one.prompt_tokens for one in replies)
        self._usage["completion_tokens"] += sum(one.completion_tokens for one in replies)
        return replies

    def take_usage(self) -> dict[str, int]:
        """Requests and tokens since the last call."""
        usage, self._usage = self._usage, dict.fromkeys(self._usage, 0)
        return usage

    def __enter__(self) -> Student:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prompt_request(example: Example, sampling: dict[str, Any], seed: int) -> Request:
    """The example's prompt, with a seed of its own that no round changes (greedy decoding does not look at it)."""
    settings = {"seed": derive_seed(seed, "eval", example.id), **sampling}
    return Request(id=example.id, role="student", messages=example.messages, sampling=settings)


def answer(student: Student, task: Task, examples: Sequence[Example], sampling: dict[str, Any], what: str) -> Answers:
    """Put every example to the student and score its reply.

    A prompt that the engine refuses (longer than the context) scores 0, is counted apart and warned of.
    """
    replies = student.ask([prompt_request(one, sampling, student.seed) for one in examples], what)
    errors = {reply.request_id: reply.error or "refused" for reply in replies if reply.finish_reason == "error"}
    if errors:
        first = next(iter(errors))
        log.warning(
            "WARNING: %d of %d examples of '%s' were refused by the engine and score 0. First: %s (%s) "
            "Raise the engine's context (student.args.max_model_len) or shorten the prompts.",
            *(len(errors), len(replies), what, first, errors[first]),
        )
    scores = score_all(student, task, examples, replies, what)
    pairs = zip(examples, replies, scores, strict=True)
    return Answers([prediction(example, reply, score) for example, reply, score in pairs], errors)


def score_all(
    student: Student, task: Task, examples: Sequence[Example], replies: Sequence[Completion], what: str
) -> list[Score]:
    """The score of each reply: the task's own, or that of its judge, who is not asked about refused prompts."""
    role = task.judge_role
    if role is None:
        return [task.score(example, reply.text) for example, reply in zip(examples, replies, strict=True)]
    if judging.needs_the_device(student.run, role):
        student.close()
    served = [index for index, reply in enumerate(replies) if reply.finish_reason != "error"]
    judged = judging.judge(
        student.run, task, [examples[index] for index in served], [replies[index].text for index in served], what
    )
    scores = dict(zip(served, judged, strict=True))
    return [scores.get(index, Score(value=0.0, correct=False, parsed=None)) for index in range(len(replies))]


def prediction(example: Example, reply: Completion, score: Score) -> Prediction:
    return Prediction(
        id=example.id,
        slice=example.slice,
        response=reply.text,
        parsed=score.parsed,
        value=score.value,
        correct=score.correct,
        truncated=reply.truncated,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        logprob=reply.logprob,
    )
