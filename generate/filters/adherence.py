"""Does the answer stay with its context: the share of its claims that the context supports.

Faithfulness as RAGAS measures it (Es et al., 2023, arXiv:2309.15217): a judge splits the answer into claims, then says
of each, alone, whether the context supports it. "The context does not say" is a claim too, so that an answer to an
unanswerable question is checked and not waved through.

    curate: {filters: [{name: adherence, role: judge, min_supported: 0.9}]}

The context is what stands in the candidate's `input`: all of it, or, with `context`, the first group of that pattern
('(?s)^(Passage 1.*)Question: ' for the recipe `rag`). A candidate in which the pattern finds nothing has no context to
adhere to and is kept unjudged, so that the filter can stand behind several recipes; how many were is logged.

Limits: claims and verdicts are a model's. True claims from outside the context count as unsupported, a faithful answer
to another question as supported. With the whole input as context, what the question claims counts as support.
"""

from __future__ import annotations

import logging
import re

from pydantic import BaseModel, ConfigDict, Field, field_validator

from generate.asking import Asker, Reply
from generate.curation import KEEP, FilterContext, Judging, refuse
from generate.gates import malformed
from synthloop import problems
from synthloop.plugins import RoleName
from synthloop.records import Candidate, Decision

log = logging.getLogger("synthloop.curate")

VERIFIES = True

MAX_CLAIMS = 12
"""More than an answer of a few sentences makes; it bounds the guided JSON (chosen, not measured)."""


class Config(BaseModel):
    """`min_supported` of the claims must be supported (chosen, not measured)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: RoleName = "judge"
    min_supported: float = Field(default=0.8, ge=0, le=1)
    context: str | None = None

    @field_validator("context")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        try:
            num_groups = 1 if pattern is None else re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if num_groups < 1:
            raise ValueError("the pattern has no group; put parentheses around what is the context")
        return pattern


class Claims(BaseModel):
    """What an answer says, in statements that can be checked one by one."""

    claims: list[str] = Field(min_length=1, max_length=MAX_CLAIMS)


class Support(BaseModel):
    """Whether the context supports one claim."""

    reason: str
    supported: bool


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    contexts = {one.id: _context(cfg, one) for one in batch}

    def judge(one: Candidate, asker: Asker) -> Judging:
        context = contexts[one.id]
        if context is None:
            return KEEP
        reply: Reply = yield asker.ask(cfg.role, "adherence_claims.jinja", schema=Claims)
        read = reply.read(Claims)
        claims = [claim.strip() for claim in read.claims if claim.strip()] if read else []
        if not claims:
            return refuse(malformed("list of claims", reply))
        replies: list[Reply] = yield [
            asker.ask(cfg.role, "adherence_support.jinja", schema=Support, context=context, claim=claim)
            for claim in claims
        ]
        given = [(claim, each.read(Support)) for claim, each in zip(claims, replies, strict=True)]
        verdicts = [(claim, verdict) for claim, verdict in given if verdict is not None]
        return _decide(cfg, verdicts) if verdicts else refuse(malformed("verdict on a claim", replies[0]))

    decisions = ctx.converse("adherence", batch, judge)
    without = sum(context is None for context in contexts.values())
    log.info("adherence: %d candidates judged, %d without a context kept unjudged", len(batch) - without, without)
    return decisions


def _context(cfg: Config, one: Candidate) -> str | None:
    if cfg.context is None:
        return problems.shown(one)
    found = re.search(cfg.context, problems.shown(one))
    return found.group(1) if found else None


def _decide(cfg: Config, verdicts: list[tuple[str, Support]]) -> Decision:
    """The share counts the claims with a verdict; one that could not be read says nothing of its claim."""
    unsupported = [claim for claim, one in verdicts if not one.supported]
    share = 1 - len(unsupported) / len(verdicts)
    if share < cfg.min_supported:
        return refuse(f"unsupported: {len(unsupported)} of {len(verdicts)} claims, e.g. {unsupported[0]!r}", share)
    return Decision(keep=True, score=share)
