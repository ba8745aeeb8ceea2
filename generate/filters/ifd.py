"""Does the instruction help the student to write the answer, and how far: Instruction-Following Difficulty.

IFD = ppl(answer | instruction) / ppl(answer) under the student (Li et al., 2023, "From Quantity to Quality",
arXiv:2308.12032, equation 4). At 1 or more the instruction does not help at all: the pair does not belong together. Of
the rest, a high IFD marks what the student finds hard to follow; `keep_share: 0.1` keeps the paper's hardest tenth. A
weaker model ranks much as a stronger one does (Superfiltering, Li et al., 2024, arXiv:2402.00530).

    curate: {filters: [{name: ifd, role: student, keep_share: 0.5}]}

The answer alone is scored as the reply to one empty user turn, with no system turn of the task: the chat template's
marks stay in both perplexities, so their quotient is of the instruction alone. The paper scores the bare answer with no
template; where a template puts in a default system turn, it is in our unconditional perplexity.

Limits: it says nothing of right or wrong. On answers of a few tokens it is mostly noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from generate.asking import Asker, Reply
from generate.curation import FilterContext, Judging, refuse
from generate.filters.confidence import mean_logprob
from synthloop.plugins import RoleName
from synthloop.records import Candidate, Decision, Message

NOTHING = (Message(role="user", content=""),)
"""The prompt that says nothing."""


class Config(BaseModel):
    """`keep_share` of those below `max_ifd` are kept, the hardest first (1: all)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: RoleName = "student"
    max_ifd: float = Field(default=1.0, gt=0)
    keep_share: float = Field(default=1.0, gt=0, le=1)


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    def judge(one: Candidate, asker: Asker) -> Judging:
        replies: list[Reply] = yield [
            asker.likelihood(cfg.role, one.messages, one.completion, member=0),
            asker.likelihood(cfg.role, NOTHING, one.completion, member=0),
        ]
        instructed, alone = map(mean_logprob, replies)
        ifd = math.exp(alone - instructed)
        if ifd >= cfg.max_ifd:
            return refuse(f"not helped: IFD {ifd:.2f}, not below {cfg.max_ifd}", ifd)
        return Decision(keep=True, score=ifd)

    return _hardest(ctx.converse("ifd", batch, judge), cfg.keep_share)


def _hardest(decisions: Sequence[Decision], share: float) -> list[Decision]:
    """The decisions, with those kept that are not among the `share` of highest score refused; ties to the earlier."""
    scores = {place: one.score for place, one in enumerate(decisions) if one.keep and one.score is not None}
    hardest = sorted(scores, key=lambda place: (-scores[place], place))
    easy = set(hardest[math.ceil(share * len(hardest)) :])
    told = f"not in the hardest {share:.0%}"
    return [
        refuse(f"easy: IFD {scores[place]:.2f}, {told}", scores[place]) if place in easy else one
        for place, one in enumerate(decisions)
    ]
