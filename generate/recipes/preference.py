"""Chosen and rejected answers: the best and the worst of k scored samples, with a margin between them.

Pairs for DPO (Rafailov et al., 2023, arXiv:2305.18290; `train.objective: dpo`) made as in UltraFeedback (Cui et al.,
2023, arXiv:2310.01377): several answers to one problem, each scored in [0, 1]. A real train problem has a gold answer,
and the task's scorer decides. A failure is held out: a new problem is written from it first, and as that has no gold,
`judge` grades each answer from 1 to 5 on UltraFeedback's four aspects. `writer` and `rival` take turns: a weaker rival
makes the worse half, the student itself (`rival: student`) makes it on-policy.

    generate: {recipes: [{name: preference, num_samples: 4, margin: 0.25, writer: teacher, rival: teacher,
         judge: teacher}]}

A pair whose best answer scores below `min_score` is refused: "less wrong" is nothing to learn. Truncated and repeated
answers take no part. Judges favour length and their own style (compare `scores` with lengths); an
objective other than `dpo` trains on the chosen answer alone.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import cycle, islice
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from generate.context import Ask, Context, Conversation, Reply
from generate.gates import flaw, malformed
from generate.proposing import new_problem
from synthloop.plugins import RoleName
from synthloop.records import Seed

SEEDS = "any"

Grade = Annotated[int, Field(ge=1, le=5)]


class Config(BaseModel):
    """`num_samples` answers a problem. `margin` and `min_score` are in the score's unit, [0, 1]; chosen, not measured.

    A margin of 0.25 is one grade on the mean of the aspects; right against wrong is 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    writer: RoleName = "teacher"
    rival: RoleName = "teacher"
    judge: RoleName = "teacher"
    num_samples: int = Field(default=4, ge=2)
    margin: float = Field(default=0.25, gt=0, le=1)
    min_score: float = Field(default=0.5, ge=0, le=1)
    problem_sampling: dict[str, Any] = {}
    solve_sampling: dict[str, Any] = {}


class Verdict(BaseModel):
    """The aspects of UltraFeedback, section 2.4; the reason comes first, so that the grades follow from it."""

    reason: str
    instruction_following: Grade
    truthfulness: Grade
    honesty: Grade
    helpfulness: Grade

    @property
    def score(self) -> float:
        """The mean grade, mapped to [0, 1]."""
        grades = (self.instruction_following, self.truthfulness, self.honesty, self.helpfulness)
        return (sum(grades) / len(grades) - 1) / 4


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    problem, messages, gold = seed.example.input, seed.example.messages, seed.example.answer
    shown = ctx.conversation(seed.example)
    if seed.response is not None:  # held out: not to be trained on as it is
        gold = None
        problem = shown = yield new_problem(seed, ctx, cfg.problem_sampling)
        if reason := flaw(problem, "new problem"):
            return ctx.reject(reason)
        messages = ctx.task.messages(problem)

    replies = yield [
        ctx.ask(role, "preference_answer.jinja", messages=messages, sample=i, sampling=cfg.solve_sampling)
        for i, role in enumerate(islice(cycle((cfg.writer, cfg.rival)), cfg.num_samples))
    ]
    answers = list(dict.fromkeys(one for one in replies if one and not one.truncated))
    if len(answers) < 2:
        return ctx.reject("too few answers: fewer than two are whole and different")
    scores = yield from score(shown, answers, gold, ctx)
    if isinstance(scores, str):
        return ctx.reject(scores)

    best, worst = scores.index(max(scores)), scores.index(min(scores))
    if scores[best] < cfg.min_score:
        return ctx.reject(f"no good answer: the best scores {scores[best]:.2f}")
    if scores[best] - scores[worst] < cfg.margin:
        return ctx.reject(f"no margin: the best scores {scores[best]:.2f}, the worst {scores[worst]:.2f}")
    return ctx.candidate(
        problem,
        answers[best],
        answer=gold,
        gold=gold is not None,
        votes=[None if one.truncated else ctx.parse(problem, one) for one in replies],
        messages=messages,
        rejected=answers[worst],
        scores={"chosen": scores[best], "rejected": scores[worst]},
        lineage={"scored_by": "judge" if gold is None else "task", "answer_scores": scores},
    )


def score(
    problem: str, answers: list[Reply], gold: str | None, ctx: Context
) -> Generator[list[Ask], list[Reply], list[float] | str]:
    """What the task's scorer says of each answer where there is a gold one, else what the judge says.

    The judge sees one answer at a time, so that their order cannot matter; a text says why a verdict can't be read.
    """
    if gold is not None:
        return [ctx.score(problem, one, gold).value for one in answers]
    role = ctx.config.judge
    replies = yield [
        ctx.ask(role, "preference_judge.jinja", schema=Verdict, problem=problem, answer=one) for one in answers
    ]
    scores: list[float] = []
    for reply in replies:
        if (verdict := reply.read(Verdict)) is None:
            return malformed("verdict", reply)
        scores.append(verdict.score)
    return scores
