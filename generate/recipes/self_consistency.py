"""New problems labelled by the majority of k sampled solutions, with their agreement as the confidence.

Self-Consistency (Wang et al., 2022, arXiv:2203.11171) as a labeller (Huang et al., 2022, arXiv:2210.11610): the teacher
writes a new problem from the seed, and `solver` samples k = `num_solutions` solutions of it, a committee's members in
turn. The answer most of them give is the label, the first solution that gives it the completion. The share that gives
it is kept as the score `agreement`: the papers find that it rises with accuracy, and `verify` cuts by it.

    generate: {recipes: [{name: self_consistency, num_solutions: 16}]}

`variation` and `repair` vote in the same way; here the label is the point: more samples (the papers take 32 and 40), a
solver of its own, no label where two answers tie, and the confidence recorded. Limits: a model that is consistently
wrong agrees with itself; a solver at low temperature is confident of everything.
"""

from __future__ import annotations

from pydantic import Field

from generate.context import Context, Conversation
from generate.gates import flaw
from generate.proposing import new_problem
from generate.voting import VotingConfig, majority
from synthloop.plugins import RoleName
from synthloop.records import Seed

SEEDS = "any"


class Config(VotingConfig):
    """Settings: those of the vote, with more solutions (chosen, not measured), and who solves."""

    solver: RoleName = "teacher"
    num_solutions: int = Field(default=8, ge=2)


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    problem = yield new_problem(seed, ctx, cfg.problem_sampling)
    if reason := flaw(problem, "new problem"):
        return ctx.reject(reason)
    prompt = ctx.task.messages(problem)[-1]["content"]
    solutions = yield [
        ctx.ask(
            cfg.solver, "solve.jinja", problem=problem, prompt=prompt, sample=i, member=i, sampling=cfg.solve_sampling
        )
        for i in range(cfg.num_solutions)
    ]
    votes = [None if one.truncated else ctx.parse(problem, one) for one in solutions]
    answer = majority(votes)
    if answer is None:
        return ctx.reject("no answer: no solution has one that parses")
    num_for = votes.count(answer)
    if any(votes.count(other) == num_for for other in votes if other not in (answer, None)):
        return ctx.reject(f"tie: {num_for} of {len(votes)} votes each")
    return ctx.candidate(
        problem,
        solutions[votes.index(answer)],
        answer=answer,
        votes=votes,
        scores={"agreement": num_for / len(votes)},
    )
