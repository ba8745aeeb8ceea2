"""What do independent answers say: a clear majority becomes the candidate's answer and completion.

Self-Consistency (Wang et al., 2022, arXiv:2203.11171) as an enhancer: a role answers each problem `num_answers` times
without seeing the candidate's own answer. Where the share of the most frequent answer reaches `min_agreement`, it
replaces `answer`, the first reply that gives it `completion`, and the k answers `votes`, so that `verify` judges the
new label. A candidate that has the majority's answer already keeps its completion. A gold answer is never voted away.

    curate: {filters: [{name: relabel, role: teacher, num_answers: 8, min_agreement: 0.75}, {name: verify}]}

Limits: a model's systematic errors win votes too. It works where the task's scorer reads short answers. What is asked
here is in the journal but not in the sample's lineage, and with the student as `role` the generation depth of a new
completion may be more than the sample's `depth` says.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from generate.answering import SAMPLING, Answer, answer
from generate.asking import Asker
from generate.curation import KEEP, FilterContext, Judging, refuse
from generate.voting import majority
from synthloop.plugins import RoleName
from synthloop.records import Candidate, Decision


class Config(BaseModel):
    """`otherwise`: what becomes of a candidate without a clear majority. Numbers are chosen, not measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: RoleName = "teacher"
    num_answers: int = Field(default=8, gt=1)
    min_agreement: float = Field(default=0.75, gt=0, le=1)
    otherwise: Literal["refuse", "keep"] = "refuse"
    sampling: dict[str, Any] = SAMPLING


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    train = ctx.real("train")

    def judge(one: Candidate, asker: Asker) -> Judging:
        if one.gold:
            return KEEP
        answers = yield from answer(one, asker, ctx, train, role=cfg.role, count=cfg.num_answers, sampling=cfg.sampling)
        return _decide(cfg, one, answers)

    return ctx.converse("relabel", batch, judge)


def _decide(cfg: Config, one: Candidate, answers: list[Answer]) -> Decision:
    votes = [each.vote for each in answers]
    winner = majority(votes)
    num_for = Counter(votes)[winner] if winner is not None else 0
    agreement = num_for / len(votes)
    if agreement >= cfg.min_agreement:
        return Decision(keep=True, score=agreement, changes=_changes(one, answers, winner))
    if cfg.otherwise == "keep":
        return Decision(keep=True, score=agreement)
    if winner is None:
        return refuse(f"no votes: none of {len(votes)} answers parses", agreement)
    return refuse(f"disagreement: {num_for} of {len(votes)} for {winner!r}", agreement)


def _changes(one: Candidate, answers: list[Answer], winner: str | None) -> dict[str, Any]:
    votes = tuple(each.vote for each in answers)
    if winner == one.answer:
        return {"votes": votes}
    changes: dict[str, Any] = {
        "answer": winner,
        "completion": answers[votes.index(winner)].text,
        "votes": votes,
    }
    # Where the slice is the label itself, the sample's slice follows its label.
    return {**changes, "slice": winner} if one.slice is not None and one.slice == one.answer else changes
