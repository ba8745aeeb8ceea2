"""New problems invented from a pool of real ones, kept when they read unlike all of the pool and one another.

The first of the four steps of Self-Instruct (Wang et al., 2022, arXiv:2212.10560, figure 2), within one task: the
seed's example and its demonstrations, in a drawn order, are the pool that the teacher continues with `num_problems` new
ones. Each must stay below `max_rouge_l` with every text of the pool and every earlier new one (ROUGE-L F-measure, 0.7
as in section 2.2). What is new is solved `num_solutions` times, and the majority answers it.

    generate:
      recipes: [{name: self_instruct, num_problems: 3, num_solutions: 4}]
      num_demonstrations: 7

The paper shows 8 tasks at a time: `num_demonstrations: 7`. A failure among the pool is one problem of many here; to aim
at it, take `repair`. Limits: no new tasks are invented, and what was written does not join the pool; novelty is judged
within the conversation; against everything else it is the filter `novelty` that does. All answers come input-first: for
labels the paper writes the label first, which balances them.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from generate.context import Context, Conversation, Reject, Reply
from generate.gates import malformed
from generate.rouge import rouge_l
from generate.voting import VotingConfig, solve
from synthloop.records import Candidate, Seed

SEEDS = "any"

MAX_CHARS = 1500
"""Of a problem; chosen, not measured."""


class Config(VotingConfig):
    """Settings: those of the vote; `num_problems` are invented at once (chosen, not measured)."""

    num_problems: int = Field(default=3, gt=0, le=8)
    max_rouge_l: float = Field(default=0.7, gt=0, le=1)


class Problems(BaseModel):
    """The reply."""

    problems: list[str] = Field(min_length=1, max_length=8)


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    pool = [ctx.conversation(one) for one in (seed.example, *seed.demonstrations)]
    ctx.rng("pool").shuffle(pool)
    reply = yield ctx.ask(
        "teacher",
        "self_instruct_tasks.jinja",
        pool=tuple(pool),
        num_problems=cfg.num_problems,
        schema=Problems,
        sampling=cfg.problem_sampling,
    )
    if (invented := reply.read(Problems)) is None:
        return ctx.reject(malformed("list of problems", reply))
    outcomes: list[Candidate | Reject] = []
    for text in invented.problems[: cfg.num_problems]:
        if len(text) > MAX_CHARS:
            outcomes.append(ctx.reject(f"too long: a problem of {len(text)} characters, more than {MAX_CHARS}"))
            continue
        likeness = max(rouge_l(text, other) for other in pool)
        if likeness >= cfg.max_rouge_l:
            outcomes.append(ctx.reject(f"not new: ROUGE-L {likeness:.2f} with a problem of the pool"))
            continue
        pool.append(text)
        problem = Reply(reply.completion.model_copy(update={"text": text}))
        outcomes.append((yield from solve(problem, ctx, scores={"rouge_l": likeness})))
    return outcomes
