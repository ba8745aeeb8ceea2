"""Does a model find the answer likely: the mean log-probability of its tokens, given the prompt.

The length-normalised sequence probability of Malinin and Gales, 2020 (arXiv:2002.07650, section 3), under any role: a
teacher that finds an answer unlikely may have slipped; what the student finds certain teaches it little.

    curate: {filters: [{name: confidence, role: student, min_logprob: -2.0, max_logprob: -0.05}]}

The score is in nats a token, the end of the turn included. Reading it off the generated tokens would be cheaper, but
it would be of the sampled distribution and of another prompt; here the answer is scored as the student will see it.

Limits: likely is not right. Long answers in a common form score high whatever they conclude, and a model is often sure
of its own mistakes. Thresholds depend on model and task: read the scores of a round before setting them.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from generate.asking import Asker, Reply
from generate.curation import FilterContext, Judging, refuse
from synthloop.plugins import RoleName
from synthloop.records import Candidate, Decision

VERIFIES = True


class Config(BaseModel):
    """What is kept lies between `min_logprob` and `max_logprob`, nats a token (the default is chosen, not measured).

    Of a committee the first member is asked: one model's likelihoods are not another's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: RoleName = "teacher"
    min_logprob: float = Field(default=-2.0, le=0)
    max_logprob: float | None = Field(default=None, le=0)

    @model_validator(mode="after")
    def _ordered(self) -> Config:
        if self.max_logprob is not None and self.max_logprob <= self.min_logprob:
            raise ValueError(f"max_logprob ({self.max_logprob}) is not above min_logprob ({self.min_logprob})")
        return self


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    def judge(one: Candidate, asker: Asker) -> Judging:
        reply: Reply = yield asker.likelihood(cfg.role, one.messages, one.completion, member=0)
        mean = mean_logprob(reply)
        if mean < cfg.min_logprob:
            return refuse(f"unlikely: {mean:.2f} nats a token, below {cfg.min_logprob}", mean)
        if cfg.max_logprob is not None and mean > cfg.max_logprob:
            return refuse(f"already known: {mean:.3f} nats a token, above {cfg.max_logprob}", mean)
        return Decision(keep=True, score=mean)

    return ctx.converse("confidence", batch, judge)


def mean_logprob(reply: Reply) -> float:
    """The mean log-probability (nats) of a scored completion's tokens, the end of its turn among them."""
    assert reply.logprobs, "the engine gave no prompt_logprobs"
    return sum(reply.logprobs) / len(reply.logprobs)
