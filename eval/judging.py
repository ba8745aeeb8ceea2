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

import logging
from collections.abc import Sequence

import jinja2
from pydantic import BaseModel, Field

from synthloop import plugins, problems, progress
from synthloop.config import RoleConfig
from synthloop.engines import complete_all, identity, num_devices
from synthloop.journal import Journal
from synthloop.randomness import derive_seed
from synthloop.records import Completion, Example, Message, Request, Score
from synthloop.refusals import Refusals
from synthloop.storable import loads
from synthloop.store import Run
from synthloop.task import Task

log = logging.getLogger("synthloop.eval")

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

    reason: str = Field(max_length=400)
    correct: bool


def judge(run: Run, task: Task, examples: Sequence[Example], texts: Sequence[str], what: str) -> list[Score | None]:
    """The score of each reply. One on which no judge gave a verdict scores 0, counted and warned of; one on which no
    judge could be asked (its engine refused or failed) has None.

    `Score.parsed` is the reply's text, as the task normalises it.

    Raises:
        StageFailed: more of a judge's requests were not served than `max_error_share`.
    """
    role = task.judge_role
    assert role is not None, task
    members = run.config.committee(role)
    verdicts: list[list[bool]] = [[] for _ in examples]
    served = [False] * len(examples)
    for member in members:
        for index, reply in enumerate(_ask(run, role, member, task, examples, texts, what)):
            served[index] = served[index] or reply.finish_reason != "error"
            if (verdict := read(reply)) is not None:
                verdicts[index].append(verdict.correct)
    silent = sum(asked and not found for asked, found in zip(served, verdicts, strict=True))
    if silent:
        log.warning(
            "%d of %d answers of '%s' got no verdict from roles.%s (no such JSON, or cut off) and score 0. "
            "Raise roles.%s.sampling.max_tokens or its context.",
            *(silent, len(verdicts), what, role, role),
        )
    shares = [sum(found) / len(found) if found else 0.0 for found in verdicts]
    parsed = [task.score(example, text).parsed for example, text in zip(examples, texts, strict=True)]
    return [
        Score(value=share, correct=share > 0.5, parsed=text) if asked else None
        for share, text, asked in zip(shares, parsed, served, strict=True)
    ]


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
) -> list[Completion]:
    config = member.engine_config()
    requests = [
        Request(
            id=example.id,
            role=role,
            messages=messages(example, text, task.judge_instructions),
            sampling={
                "temperature": 0.0,
                "max_tokens": 256,
                "seed": derive_seed(run.config.seed, "judge", example.id),
                **config.sampling,
                "structured_outputs": {"json": Verdict.model_json_schema()},
            },
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
                engine, requests, journal, who, lambda done, total: update(done),
                refusals=Refusals(run.config.max_error_share, f"judging {what}"),
            )  # fmt: skip
        finally:
            engine.close()


def messages(example: Example, text: str, instructions: str) -> tuple[Message, ...]:
    """What the judge is asked."""
    problem = problems.shown(example)
    asked = PROMPT.render(problem=problem, reference=example.completion, text=text, instructions=instructions)
    return (Message(role="system", content=SYSTEM), Message(role="user", content=asked))


def read(reply: Completion) -> Verdict | None:
    """The verdict in a reply; None where there is none. Control characters in strings pass, as in `generate.asking`."""
    try:
        return Verdict.model_validate(loads(reply.text, strict=False))
    except ValueError:
        return None
