"""Is the answer right, as far as that can be known.

Where the answer comes from real data (`gold`), the task's scorer decides. Where the teacher wrote the problem there is
no gold: independent solutions must agree (Self-Consistency, Wang et al., 2022, arXiv:2203.11171), and the completion
must score as correct against what they agree on.

    curate: {filters: [{name: verify, min_agreement: 0.75}]}

Agreement of one model with itself is no proof: it repeats its own systematic errors. A solution that does not parse
counts as a vote against.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import KEEP, FilterContext, refuse
from synthloop.records import Candidate, Decision

VERIFIES = True
READS_VOTES = True


class Config(BaseModel):
    """`min_agreement` of all votes, and at least `min_votes` of them, must be for the answer (chosen, not measured)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_agreement: float = Field(default=0.6, gt=0, le=1)
    min_votes: int = Field(default=2, gt=0)


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    return [_check(cfg, one, ctx) for one in batch]


def _check(cfg: Config, one: Candidate, ctx: FilterContext) -> Decision:
    if one.answer is None:
        return refuse("no answer: there is nothing to verify the completion by")
    example = ctx.score_example(one)
    score = ctx.task.score(example, one.completion)
    if not score.correct:
        return refuse(f"wrong: the completion says {score.parsed!r}, the answer is {one.answer!r}", score.value)
    if one.gold:
        return KEEP
    votes = [vote for vote in one.votes if vote is not None]
    num_for = sum(vote == one.answer or ctx.task.score(example, vote).correct for vote in votes)
    agreement = num_for / len(one.votes) if one.votes else 0.0
    if num_for < cfg.min_votes:
        return refuse(f"too few votes: {num_for} of {len(one.votes)} for {one.answer!r}", agreement)
    if agreement < cfg.min_agreement:
        return refuse(f"disagreement: {num_for} of {len(one.votes)} votes for {one.answer!r}", agreement)
    return Decision(keep=True, score=agreement)
