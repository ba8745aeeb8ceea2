"""Scores by a judge, for answers that no rule can compare: `task: {name: jsonl, scorer: judge}`.

Every engine of the role is shown the problem with all its turns, the reference and the student's reply, and says
whether the reply is right (reference-guided grading: Zheng et al. 2023, arXiv:2306.05685). The score is the share of
judges who say so; right is what more than half call right. Replies go to the journal, so a reply is judged once, in
whichever round it is given again. A judge in this process takes the student's place on the device, and the student is
loaded again after it; a server (`engine: server`) stands beside it.

Limits: a judge misses errors in what it cannot solve itself and favours its own family's style. Read some of its
reasons (`journal.sqlite`, role of the judge) before you believe a gain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jinja2
from pydantic import BaseModel

from synthloop import guided, plugins, problems, progress
from synthloop.config import RoleConfig
from synthloop.engines import Engine, complete_all, identity, num_devices
from synthloop.journal import Journal
from synthloop.randomness import derive_seed
from synthloop.records import Completion, Example, Message, Request, Score
from synthloop.refusals import Refusals
from synthloop.store import Run
from synthloop.task import Task

SYSTEM = "You grade answers. You are strict and fair. You reply with JSON only."
PROMPT = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(
    """<problem>
{{ problem }}
</problem>

<reference>
{{ reference }}
</reference>

<answer>
{{ text }}
</answer>
{% if instructions %}
{{ instructions }}
{% endif %}
Is the answer right? It need not be worded like the reference, but it must say the same where that matters and nothing \
that contradicts it. Reply with JSON: first "reason", in at most three sentences, then "correct", true or false."""
)


class Verdict(BaseModel):
    """A judge's reply: the reason first, so that the verdict follows from it."""

    reason: str
    correct: bool


def judge(
    run: Run,
    task: Task,
    examples: Sequence[Example],
    texts: Sequence[str],
    what: str,
    note_errors: Callable[[list[dict[str, Any]]], None] = lambda kinds: None,
) -> list[Score | None]:
    """The score of each reply. One on which no judge gave a verdict has None: it is no wrong answer of the student.

    `Score.parsed` is the reply's text, as the task normalises it.

    Args:
        note_errors: called with what each judge left without a verdict, as `Refusals.kinds` tells it.

    Raises:
        StageFailed: to more than `max_error_share` of its requests a judge gave no verdict.
    """
    role = task.judge_role
    assert role is not None, task
    members = run.config.committee(role)
    verdicts: list[list[bool]] = [[] for _ in examples]
    for member in members:
        refusals = Refusals(run.config.max_error_share, f"judging {what}")
        for index, reply in enumerate(_ask(run, role, member, task, examples, texts, what, refusals)):
            if (verdict := read(reply)) is not None:
                verdicts[index].append(verdict.correct)
        note_errors(refusals.kinds())
    parsed = [task.score(example, text).parsed for example, text in zip(examples, texts, strict=True)]
    return [_score(*one) for one in zip(verdicts, parsed, strict=True)]


def _score(verdicts: Sequence[bool], parsed: str | None) -> Score | None:
    if not verdicts:
        return None
    share = sum(verdicts) / len(verdicts)
    return Score(value=share, correct=share > 0.5, parsed=parsed)


def needs_the_device(run: Run, role: str) -> bool:
    """Whether an engine of the role is loaded on this machine, where the student is: here, or by a server we start."""
    return any(num_devices(member.engine_config()) > 0 for member in run.config.committee(role))


def _ask(
    run: Run,
    role: str,
    member: RoleConfig,
    task: Task,
    examples: Sequence[Example],
    texts: Sequence[str],
    what: str,
    refusals: Refusals,
) -> list[Completion]:
    config = member.engine_config()
    requests = [
        Request(
            id=example.id,
            role=role,
            messages=messages(example, text, task.judge_instructions),
            sampling=guided.guide(
                {
                    "temperature": 0.0,
                    "max_tokens": 512,
                    "seed": derive_seed(run.config.seed, "judge", example.id),
                    **config.sampling,
                },
                Verdict,
            ),
        )
        for example, text in zip(examples, texts, strict=True)
    ]
    bare = config.model_copy(update={"sampling": {}})
    who = identity(bare)
    update = progress.updates(len(requests), f"judge {what}")
    with Journal(run.journal_path, f"eval/{what}") as journal:
        engine = plugins.load("engine", member.engine).open(bare)
        try:
            return complete_all(
                Strict(engine, role), requests, journal, who, lambda done, total: update(done), refusals=refusals
            )
        finally:
            engine.close()


def messages(example: Example, text: str, instructions: str) -> tuple[Message, ...]:
    """What the judge is asked."""
    problem = problems.shown(example)
    asked = PROMPT.render(problem=problem, reference=example.completion, text=text, instructions=instructions)
    return (Message(role="system", content=SYSTEM), Message(role="user", content=asked))


def read(reply: Completion) -> Verdict | None:
    """The verdict in a reply; None where there is none."""
    try:
        return guided.read(reply, Verdict)
    except guided.Unreadable:
        return None


class Strict:
    """A judge's engine, for which a reply without a verdict is a request that was not served: it is not journaled, is
    counted, and fails the stage above its share."""

    def __init__(self, engine: Engine, role: str) -> None:
        self._engine = engine
        self._role = role
        self.submit, self.close = engine.submit, engine.close

    def poll(self) -> list[Completion]:
        return [self._checked(reply) for reply in self._engine.poll()]

    def _checked(self, reply: Completion) -> Completion:
        if reply.finish_reason == "error":
            return reply
        try:
            guided.read(reply, Verdict)
        except guided.Unreadable as unread:
            remedy = f" Raise roles.{self._role}.sampling.max_tokens." if reply.truncated else ""
            why = f"The reply {unread}.{remedy}"
            return reply.model_copy(update={"finish_reason": "error", "error": why})
        return reply
