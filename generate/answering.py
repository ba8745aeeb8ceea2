"""Having a role answer a candidate's problem afresh, without seeing the candidate's own answer.

    answers = yield from answer(one, asker, ctx, ctx.real("train"), role="teacher", count=8)

The prompt (`answer.jinja`) shows real train rows, so that the answers come in the form the scorer reads; a row with the
candidate's own problem is left out of them. Where answers are labels, the rows shown are of different ones.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

from generate.asking import Ask, Asker, Reply
from generate.curation import FilterContext
from generate.demonstrations import by_label, draw_across
from synthloop.records import Candidate, Example

SAMPLING: dict[str, Any] = {"temperature": 0.7}
"""What Wang et al., 2022 (arXiv:2203.11171, section 3.1) sample at, for most of their models."""

NUM_SHOWN = 3
"""Train rows shown in the prompt (chosen, not measured)."""


class Answer(NamedTuple):
    """One answer: its text, and what the task's scorer finds in it. A truncated one has no `vote`."""

    text: str
    vote: str | None


def answer(
    one: Candidate,
    asker: Asker,
    ctx: FilterContext,
    train: Sequence[Example],
    *,
    role: str,
    count: int,
    sampling: Mapping[str, Any] = SAMPLING,
) -> Generator[list[Ask], list[Reply], list[Answer]]:
    """`count` independent answers of `role` to the candidate's problem, in a part of a filter's conversation."""
    own, *others = ctx.compared([one, *train])
    rows = [row for row, problem in zip(train, others, strict=True) if problem != own]
    draw = asker.rng("demonstrations")
    if ctx.task.labels:
        shown: Sequence[Example] = draw_across(by_label(rows), NUM_SHOWN, draw, one.id)
    else:
        shown = draw.sample(rows, min(NUM_SHOWN, len(rows)))
    replies = yield [
        asker.ask(role, "answer.jinja", demonstrations=shown, sample=i, sampling=dict(sampling)) for i in range(count)
    ]
    example = ctx.score_example(one)
    return [Answer(reply, None if reply.truncated else ctx.task.score(example, reply).parsed) for reply in replies]
