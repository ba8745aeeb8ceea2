"""Is it good, in the eyes of one or several models that grade it by a rubric or compare it with another answer?

LLM-as-a-judge (Zheng et al., 2023, arXiv:2306.05685). `against: rubric` asks for a grade a criterion (`rubric`: a YAML
file, see the shipped `generate/prompts/judge_rubric.yaml`). `against: rejected` compares the completion with the
candidate's `rejected` one, which it must beat; `against: reference` compares the sample with the real example its seed
holds, to which it must not lose. A comparison is asked in both orders, and a judge whose verdict changes with the order
has none: it prefers a position ('order').

    curate: {filters: [{name: judge, role: judge, min_score: 0.7, min_agreement: 0.6}]}

Every member of a committee is asked, and the share `min_agreement` of those who gave a verdict must pass the candidate.
Agreement is logged for the batch (share of equal pairs and Krippendorff's alpha), told in a refusal's reason, and kept
as the score `judge_agreement` of what several judges saw. The score is the mean over judges.

Limits: judges favour long answers, their own style and their own family's text, and miss errors in what they cannot
solve themselves (section 3.3 of the paper). Agreement of related models is no proof. Measure it: the verifier report.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from generate.agreement import krippendorff, observed
from generate.asking import Ask, Asker, Reply
from generate.curation import KEEP, FilterContext, Judging, refuse
from generate.rubrics import Rubric, read_rubric
from synthloop.errors import UserError
from synthloop.plugins import RoleName
from synthloop.records import Candidate, Decision, Example

log = logging.getLogger("synthloop.curate")

VERIFIES = True


class Config(BaseModel):
    """`min_score` (0 to 1) is what a judge who grades by the rubric must give; limits are chosen, not measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: RoleName = "judge"
    against: Literal["rubric", "rejected", "reference"] = "rubric"
    rubric: Path | None = None
    min_score: float = Field(default=0.7, ge=0, le=1)
    min_agreement: float = Field(default=0.5, gt=0, le=1)

    @cached_property
    def criteria(self) -> Rubric:
        return read_rubric(self.rubric)

    @model_validator(mode="after")
    def _readable(self) -> Config:
        """Read the rubric now, so that `synthloop check` finds its mistakes."""
        try:
            assert self.criteria.criteria
        except UserError as error:
            raise ValueError(str(error)) from error
        return self


class Comparison(BaseModel):
    """A judge's reply to two samples."""

    reason: str
    better: Literal["A", "B", "tie"]


class Verdict(NamedTuple):
    """What one judge says: whether it passes, its score in [0, 1], its verdict's kind, and what was amiss."""

    passes: bool
    score: float
    kind: str
    detail: str = ""


Asking = Generator[list[Ask], list[Reply], list[Verdict | None]]
"""A part of a conversation that asks every judge; None stands for one whose reply is no such JSON."""


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    num_judges = len(ctx.run.config.committee(cfg.role))
    panels: dict[str, list[Verdict]] = {}

    def judge(one: Candidate, asker: Asker) -> Judging:
        if cfg.against == "rejected" and one.rejected is None:
            return KEEP
        if cfg.against == "rubric":
            verdicts = yield from _grade(cfg, asker, num_judges)
        else:
            verdicts = yield from _compare(cfg, one, _other(cfg, one, ctx), asker, num_judges)
        panels[one.id] = [verdict for verdict in verdicts if verdict is not None]
        return _decide(cfg, one, panels[one.id], num_judges)

    decisions = ctx.converse("judge", batch, judge)
    _log_agreement(panels.values(), num_judges)
    return decisions


def _grade(cfg: Config, asker: Asker, num_judges: int) -> Asking:
    rubric = cfg.criteria
    replies = yield [
        asker.ask(cfg.role, "judge_grade.jinja", member=i, schema=rubric.reply, rubric=rubric)
        for i in range(num_judges)
    ]
    return [None if (read := reply.read(rubric.reply)) is None else _by_rubric(cfg, read) for reply in replies]


def _by_rubric(cfg: Config, reply: BaseModel) -> Verdict:
    grades = reply.model_dump(exclude={"reason"})
    score, short = cfg.criteria.score(grades), cfg.criteria.short_of(grades)
    passes = score >= cfg.min_score and not short
    return Verdict(passes, score, "pass" if passes else "low", ", ".join(short) or f"score {score:.2f}")


def _other(cfg: Config, one: Candidate, ctx: FilterContext) -> Candidate | Example:
    """What the candidate is compared with: something that has an `input` and a `completion`."""
    if cfg.against == "rejected":
        return one.model_copy(update={"completion": one.rejected})
    return ctx.seeds[one.seed_id].example


def _compare(cfg: Config, one: Candidate, other: Candidate | Example, asker: Asker, num_judges: int) -> Asking:
    """Both orders asked of every judge."""
    replies = yield [
        asker.ask(
            cfg.role,
            "judge_compare.jinja",
            member=i,
            schema=Comparison,
            rubric=cfg.criteria,
            first=first,
            second=second,
        )
        for i in range(num_judges)
        for first, second in ((one, other), (other, one))
    ]
    read = [reply.read(Comparison) for reply in replies]
    ties_pass = cfg.against == "reference"
    return [_by_order(a, b, ties_pass) for a, b in zip(read[::2], read[1::2], strict=True)]


def _by_order(ours_first: Comparison | None, ours_second: Comparison | None, ties_pass: bool) -> Verdict | None:
    """One judge's verdict from its two replies: to ours as A, and to ours as B."""
    if ours_first is None or ours_second is None:
        return None
    first = {"A": "win", "B": "loss", "tie": "tie"}[ours_first.better]
    second = {"A": "loss", "B": "win", "tie": "tie"}[ours_second.better]
    points = {"win": 1.0, "tie": 0.5, "loss": 0.0}
    kind = first if first == second else "order"
    score = (points[first] + points[second]) / 2
    return Verdict(kind == "win" or (kind == "tie" and ties_pass), score, kind, f"{first} as A, {second} as B")


def _decide(cfg: Config, one: Candidate, verdicts: Sequence[Verdict], num_judges: int) -> Decision:
    if not verdicts:
        return refuse(f"malformed: no reply of {num_judges} judges is such JSON")
    passing = [verdict for verdict in verdicts if verdict.passes]
    score = fmean(verdict.score for verdict in verdicts)
    told = f"{len(passing)} of {len(verdicts)} judges pass it"
    if len(passing) / len(verdicts) >= cfg.min_agreement:
        return Decision(keep=True, score=score, scores=_scores(verdicts))
    against = next(verdict for verdict in verdicts if not verdict.passes)
    kind = "disagreement" if passing else against.kind
    return refuse(f"{kind}: {told} ({against.detail})", score)


def _scores(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """With several judges: the share of pairs of them that agree."""
    agreement = observed([[verdict.kind for verdict in verdicts]])
    return {} if agreement is None else {"judge_agreement": agreement}


def _log_agreement(panels: Any, num_judges: int) -> None:
    """One line on the batch; `panels` holds the verdicts on each candidate."""
    kinds = [[verdict.kind for verdict in panel] for panel in panels]
    flat = [kind for panel in kinds for kind in panel]
    same, alpha = observed(kinds), krippendorff(kinds)
    log.info(
        "judge: %d verdicts of %d judges on %d candidates; agreement %s, Krippendorff's alpha %s; %d by position",
        len(flat),
        num_judges,
        len(kinds),
        "not defined" if same is None else f"{same:.2f}",
        "not defined" if alpha is None else f"{alpha:.2f}",
        flat.count("order"),
    )
