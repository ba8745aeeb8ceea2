"""The student under evaluation: one engine, opened when first asked, and what its answers are worth."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from eval import judging
from synthloop import agreement, guided, plugins, progress
from synthloop.engines import Engine, EngineConfig, complete_all, num_devices
from synthloop.errors import StageFailed, UserError
from synthloop.randomness import derive_seed
from synthloop.records import Completion, Example, Prediction, Request, Score
from synthloop.refusals import Refusals
from synthloop.store import Run
from synthloop.task import Task

log = logging.getLogger("synthloop.eval")


class Answers(NamedTuple):
    """Predictions in the order of the examples; those with an `error` have no reply and no score."""

    predictions: list[Prediction]

    @property
    def errors(self) -> dict[str, str]:
        """Ids of examples without a reply or a score -> why."""
        return {one.id: one.error for one in self.predictions if one.error is not None}


class Student:
    """The student with the adapter of a round (None: as it is), loaded at the first `ask`.

    Replies are not journaled: a killed evaluation asks all of it again, in the same batches. On a CPU it so ends the
    same; on a GPU replies may differ in rare tokens, as vLLM's kernels are not batch-invariant unless told to be.
    """

    def __init__(self, run: Run, adapter: Path | None) -> None:
        self.run = run
        self.seed = run.config.seed
        self.config: EngineConfig = run.config.student.engine_config()
        self._module = plugins.load("engine", run.config.student.engine)
        self._adapter = adapter
        self._engine: Engine | None = None
        self._usage = dict.fromkeys(("requests", "prompt_tokens", "completion_tokens", "errors", "unread"), 0)
        self._error_messages: list[dict[str, Any]] = []
        self._devices = 0
        self._is_compared = False
        self._comparisons: list[dict[str, Any]] = []
        if adapter is not None and not adapter.is_dir():
            raise UserError(f"{adapter}: no such adapter. Run stage `train` of that round first.")

    def use(self, adapter: Path) -> None:
        """Answer with another adapter, of the same rank, from now on; the engine stays open where it can switch."""
        self._adapter, self._is_compared = adapter, False
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
        """The reply to each request, in their order.

        Raises:
            StageFailed: more of the requests were not served than `max_error_share`, or the engine's student is not the
                one that was trained.
        """
        if self._engine is None:
            self._engine = self._module.open(self.config, adapter=self._adapter)
        if self._adapter is not None and not self._is_compared:
            self._comparisons.append(self._compare(self._engine, self._adapter))
            self._is_compared = True
        self.hold(num_devices(self.config))
        update = progress.updates(len(requests), what)
        refusals = Refusals(self.run.config.max_error_share, what)
        replies = complete_all(self._engine, requests, on_progress=lambda done, total: update(done), refusals=refusals)
        self._usage["unread"] += self._tell_misfits(requests, replies, what)
        self.note_errors(what, refusals.kinds())
        self._usage["requests"] += len(replies)
        self._usage["prompt_tokens"] += sum(one.prompt_tokens for one in replies)
        self._usage["completion_tokens"] += sum(one.completion_tokens for one in replies)
        return replies

    def _tell_misfits(self, requests: Sequence[Request], replies: Sequence[Completion], what: str) -> int:
        """How many replies are not what a JSON schema in their sampling asks, which a grammar does not hold whole."""
        asked = [{**self.config.sampling, **request.sampling} for request in requests]
        found = [why for one, reply in zip(asked, replies, strict=True) if (why := guided.misfit(one, reply))]
        if found:
            log.warning(
                "%s: %d of %d replies are not the JSON that sampling.structured_outputs asks for, and are scored as "
                "they are. The first %s.",
                *(what, len(found), len(replies), found[0]),
            )
        return len(found)

    def note_errors(self, what: str, kinds: Sequence[dict[str, Any]]) -> None:
        """Put what was not answered of the requests for `what` into the stage's record."""
        self._usage["errors"] += sum(kind["count"] for kind in kinds)
        self._error_messages += [{"split": what, **kind} for kind in kinds]

    def _compare(self, engine: Engine, adapter: Path) -> dict[str, Any]:
        """Hold the engine's log-probabilities against the trainer's, once for each adapter; facts for the record."""
        started, trained = time.monotonic(), agreement.read(adapter)
        if trained is None:
            return {"compared": False, "why": f"the training of {adapter.name} left no {agreement.FILE}"}
        replies = complete_all(engine, agreement.requests(trained))
        facts = agreement.judge(trained, replies, adapter, self.config.args, getattr(engine, "dtype", None))
        if not facts.get("judged"):
            log.info("Trainer and engine are not compared, or the difference is not judged: %s.", facts["why"])
        return {**facts, "seconds": round(time.monotonic() - started, 3)}

    def hold(self, devices: int) -> None:
        """Note that this many devices are in use; the most at any time goes into the stage's record."""
        self._devices = max(self._devices, devices)

    def take_usage(self) -> dict[str, Any]:
        """Requests, tokens, what was not served and devices since the last call."""
        usage = {
            **self._usage,
            "error_messages": self._error_messages,
            "devices": self._devices,
            "trainer_and_engine": self._comparisons,
        }
        self._usage, self._error_messages, self._devices = dict.fromkeys(self._usage, 0), [], 0
        self._comparisons = []
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

    An example whose request was not served (a prompt longer than the context, a server's refusal) is no wrong answer:
    its prediction has an `error` and counts in no score.

    Raises:
        StageFailed: there are more of those than `max_error_share`, or nothing else.
    """
    replies = student.ask([prompt_request(one, sampling, student.seed) for one in examples], what)
    scores = score_all(student, task, examples, replies, what)
    triples = zip(examples, replies, scores, strict=True)
    answers = Answers([prediction(example, reply, score) for example, reply, score in triples])
    if len(answers.errors) == len(examples):
        first = answers.predictions[0].error
        raise StageFailed(f"No example of '{what}' was answered, so there is no score. The first: {first}")
    return answers


def score_all(
    student: Student, task: Task, examples: Sequence[Example], replies: Sequence[Completion], what: str
) -> list[Score | None]:
    """The score of each reply: the task's own, or that of its judge; None where the student was not served or no judge
    gave a verdict."""
    served = [index for index, reply in enumerate(replies) if reply.finish_reason != "error"]
    shown, texts = [examples[index] for index in served], [replies[index].text for index in served]
    role = task.judge_role
    if role is None:
        found: list[Score | None] = [task.score(example, text) for example, text in zip(shown, texts, strict=True)]
    else:
        if judging.needs_the_device(student.run, role):
            student.close()
        student.hold(max(num_devices(one.engine_config()) for one in student.run.config.committee(role)))
        found = judging.judge(student.run, task, shown, texts, what, lambda kinds: student.note_errors(what, kinds))
    scores = dict(zip(served, found, strict=True))
    return [scores.get(index) for index in range(len(replies))]


def prediction(example: Example, reply: Completion, score: Score | None) -> Prediction:
    """What the reply is worth; without a score, why there is none."""
    error = None
    if score is None:
        score = Score(value=0.0, correct=False, parsed=None)
        error = reply.error or "no reason given" if reply.finish_reason == "error" else "its judge gave no verdict"
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
        error=error,
    )
