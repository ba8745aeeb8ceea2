"""New problems made by four agents: one proposes, one answers, one reviews, one revises.

The multi-agent and self-revision workflows of Phi-4 (Abdin et al., 2024, arXiv:2412.08905, section 2) and AgentInstruct
(Mitra et al., 2024, arXiv:2407.03502). The reviewer says whether the problem is sound and the answer right; the reviser
rewrites what is not, a rewritten problem is answered anew, and both are reviewed again, `max_reviews` times at most.
What passes is answered `num_solutions - 1` times more by agents who saw no review: they must agree with it.

    generate: {recipes: [{name: multi_agent, share: 0.3, max_reviews: 2, proposer: teacher, answerer: teacher,
         reviewer: teacher, reviser: teacher}]}

One model in all four roles shares its blind spots: a reviewer tends to pass what it would have written itself. Name
different roles where there are several models.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from generate.context import Ask, Context, Conversation, Reject, Reply
from generate.gates import malformed
from generate.voting import VotingConfig, majority
from synthloop.plugins import RoleName
from synthloop.records import Seed

SEEDS = "any"


class Config(VotingConfig):
    """Who plays which agent, and how often they go round. Two solutions at least: one answer agrees with itself."""

    proposer: RoleName = "teacher"
    answerer: RoleName = "teacher"
    reviewer: RoleName = "teacher"
    reviser: RoleName = "teacher"
    max_reviews: int = Field(default=2, gt=0)
    num_solutions: int = Field(default=4, ge=2)


class Review(BaseModel):
    """`comments` come first, so that the verdicts follow from them."""

    comments: str
    problem_is_sound: bool
    answer_is_correct: bool


class Approved(NamedTuple):
    """What passed the reviewer, and all that it said on the way."""

    problem: Reply
    answer: Reply
    reviews: list[Review]


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    problem = yield ctx.ask(cfg.proposer, "multi_agent_propose.jinja", sampling=cfg.problem_sampling)
    answer = yield ask_answer(problem, ctx)
    approved = yield from review(problem, answer, ctx)
    if isinstance(approved, Reject):
        return approved
    problem, answer, reviews = approved

    others = yield [ask_answer(problem, ctx, sample=i) for i in range(1, cfg.num_solutions)]
    votes = [None if one.truncated else ctx.parse(problem, one) for one in (answer, *others)]
    if votes[0] is None:
        return ctx.reject("no answer: the approved answer has none that parses")
    if majority(votes) != votes[0]:
        return ctx.reject(f"disagreement: the approved answer is {votes[0]!r}, most others are {majority(votes)!r}")
    lineage = {"reviews": [one.model_dump() for one in reviews]}
    return ctx.candidate(problem, answer, answer=votes[0], votes=votes, lineage=lineage)


def review(problem: Reply, answer: Reply, ctx: Context) -> Generator[Ask, Any, Approved | Reject]:
    """Reviewer and reviser in turns, until the reviewer has nothing against problem and answer."""
    cfg: Config = ctx.config
    reviews: list[Review] = []
    while True:
        if problem.truncated or answer.truncated:
            return ctx.reject("truncated: the problem or its answer hit max_tokens")
        if not problem or not answer:
            return ctx.reject("empty: the problem or its answer has no text")
        asked = ctx.ask(cfg.reviewer, "multi_agent_review.jinja", schema=Review, problem=problem, answer=answer)
        reply = yield asked
        if (verdict := reply.read(Review)) is None:
            return ctx.reject(malformed("review", reply))
        reviews.append(verdict)
        if verdict.problem_is_sound and verdict.answer_is_correct:
            return Approved(problem, answer, reviews)
        if len(reviews) == cfg.max_reviews:
            return ctx.reject(f"not approved: {verdict.comments}")
        told = {"problem": problem, "answer": answer, "comments": verdict.comments}
        if verdict.problem_is_sound:
            answer = yield ctx.ask(cfg.reviser, "multi_agent_revise_answer.jinja", prompt=prompt(problem, ctx), **told)
        else:
            problem = yield ctx.ask(cfg.reviser, "multi_agent_revise_problem.jinja", **told)
            answer = yield ask_answer(problem, ctx)


def ask_answer(problem: Reply, ctx: Context, sample: int = 0) -> Ask:
    cfg: Config = ctx.config
    shown, sampling = prompt(problem, ctx), cfg.solve_sampling
    return ctx.ask(cfg.answerer, "solve.jinja", problem=problem, prompt=shown, sample=sample, sampling=sampling)


def prompt(problem: Reply, ctx: Context) -> str:
    """The problem as the student sees it."""
    return ctx.task.messages(problem)[-1]["content"]
