"""How likely does a model hold it that the answer is true, or that it could answer: P(True) and P(IK).

Kadavath et al., 2022 (arXiv:2207.05221). P(True): a role is shown problem and answer and asked whether the answer is
True or False; the score is P("True") / (P("True") + P("False")), from the log-probabilities of both replies. P(IK)
asks, before any answer, whether it could answer the problem; `max_probability` then keeps what it does not know.

    curate: {filters: [{name: self_eval, role: judge, min_probability: 0.6}]}

Where the candidates have gold answers the calibration is logged, with n: expected calibration error and Brier score of
P(True) against the task's scorer, of P(IK) against one sampled answer of the same role. Without gold it is unknown.

Limits: the paper finds it calibrated for large models and few-shot prompts, hardly for small ones; instruction tuning
spoils it (there repaired by a temperature). Its P(IK) comes from a trained head, ours from a prompt alone.
"""

from __future__ import annotations

import logging
import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from generate.answering import answer
from generate.asking import Asker, Reply
from generate.calibration import calibrate
from generate.curation import FilterContext, Judging, refuse
from synthloop.plugins import RoleName
from synthloop.records import Candidate, Decision

log = logging.getLogger("synthloop.curate")

VERIFIES = True
PROBABILITY = True
"""The score is a probability of being right, so the verifier report measures its calibration."""


class Config(BaseModel):
    """`show_votes` shows the recipe's other answers beside the proposed one (section 4.2 of the paper; P(True) only).

    Of a committee the first member is asked: one model's probabilities are not another's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: RoleName = "judge"
    measure: Literal["p_true", "p_ik"] = "p_true"
    min_probability: float = Field(default=0.5, ge=0, le=1)
    max_probability: float = Field(default=1.0, ge=0, le=1)
    show_votes: bool = False


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    train = ctx.real("train") if cfg.measure == "p_ik" else []
    stated: dict[str, tuple[float, bool]] = {}

    def judge(one: Candidate, asker: Asker) -> Judging:
        # The prompt is rendered by `ask`, and its two replies are scored in place of being asked for.
        turns = asker.ask(cfg.role, f"self_eval_{cfg.measure}.jinja", member=0, votes=_votes(cfg, one)).request.messages
        replies: list[Reply] = yield [asker.likelihood(cfg.role, turns, text, member=0) for text in ("True", "False")]
        true, false = (sum(reply.logprobs) for reply in replies)
        probability = 1 / (1 + math.exp(min(false - true, 700)))
        if one.gold and cfg.measure == "p_true":
            stated[one.id] = probability, ctx.task.score(ctx.score_example(one), one.completion).correct
        elif one.gold:
            (own,) = yield from answer(one, asker, ctx, train, role=cfg.role, count=1, sampling={"temperature": 1.0})
            knew = own.vote is not None and ctx.task.score(ctx.score_example(one), own.text).correct
            stated[one.id] = probability, knew
        return _decide(cfg, probability)

    decisions = ctx.converse("self_eval", batch, judge)
    found = calibrate(*zip(*stated.values(), strict=True)) if stated else None
    log.info("self_eval: %s of %d candidates: %s", cfg.measure, len(batch), found or "calibration unknown, no gold")
    return decisions


def _votes(cfg: Config, one: Candidate) -> list[str]:
    """The distinct answers of the recipe's other solutions, in their order."""
    return [vote for vote in dict.fromkeys(one.votes) if vote is not None] if cfg.show_votes else []


def _decide(cfg: Config, probability: float) -> Decision:
    said = f"{'P(True)' if cfg.measure == 'p_true' else 'P(IK)'} {probability:.2f}"
    if probability < cfg.min_probability:
        return refuse(f"doubted: {said}, below {cfg.min_probability}", probability)
    if probability > cfg.max_probability:
        return refuse(f"already known: {said}, above {cfg.max_probability}", probability)
    return Decision(keep=True, score=probability)
