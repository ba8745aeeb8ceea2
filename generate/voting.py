"""The end that most recipes share: a new problem is solved k times, and what most solutions agree on is its answer.

Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models", 2022 (arXiv:2203.11171).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from generate.context import Ask, Context, Reject, Reply
from generate.gates import flaw
from synthloop.records import Candidate


class VotingConfig(BaseModel):
    """`num_solutions` independent solutions of each new problem. `sampling` is over the role's, for one step each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_solutions: int = Field(default=4, gt=0)
    problem_sampling: dict[str, Any] = {}
    solve_sampling: dict[str, Any] = {}


def majority(votes: Sequence[str | None]) -> str | None:
    """The most frequent vote that parsed, the earliest of equals; None where none did."""
    parsed = [vote for vote in votes if vote is not None]
    return Counter(parsed).most_common(1)[0][0] if parsed else None


def solve(
    problem: Reply, ctx: Context, *, scores: Mapping[str, float] | None = None, lineage: Mapping[str, Any] | None = None
) -> Generator[list[Ask], Any, Candidate | Reject]:
    """Ask for `config.num_solutions` solutions; the candidate is the first that gives the majority answer.

    A truncated solution has no vote: its answer may be one it had not yet taken back. `scores` and `lineage` are the
    recipe's own, as in `ctx.candidate`.
    """
    cfg: VotingConfig = ctx.config
    if reason := flaw(problem, "new problem"):
        return ctx.reject(reason)
    prompt = ctx.task.messages(problem)[-1]["content"]
    solutions = yield [
        ctx.ask("teacher", "solve.jinja", problem=problem, prompt=prompt, sample=i, sampling=cfg.solve_sampling)
        for i in range(cfg.num_solutions)
    ]
    votes = [None if solution.truncated else ctx.parse(problem, solution) for solution in solutions]
    answer = majority(votes)
    if answer is None:
        return ctx.reject("no solution has an answer that parses")
    return ctx.candidate(
        problem, solutions[votes.index(answer)], answer=answer, votes=votes, scores=scores, lineage=lineage
    )
