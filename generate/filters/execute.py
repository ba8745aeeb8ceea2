"""Does the candidate's code pass its tests, run where it can do no harm?

Executed tests are the one verifier of code that takes nobody's word (Codex, Chen et al., 2021, arXiv:2107.03374). The
code is what stands in the completion's Python fences. Its tests are those that the recipe left in `lineage.tests`
(`self_debug`), else those of the real problem the candidate solves (`meta.tests` of the seed's example), else
`template`: a Jinja text over `candidate`, here for programs that compute the candidate's answer. Each test is Python
that raises where it fails.

    curate: {filters: [{name: execute, template: "assert solution() == {{ candidate.answer }}"}]}

A score is the share of tests that pass; all must. Refuses as 'no code', 'no tests', 'failed' or 'timeout', and runs as
many programs at once as there are CPUs, each within `limits` (`generate/sandbox.py`), which takes Linux.

Limits: tests see what they test. Those a teacher wrote may be wrong, or too few to tell code from right code.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pydantic import BaseModel, ConfigDict, field_validator

from generate import sandbox
from generate.curation import FilterContext, refuse
from generate.sandbox import Limits
from synthloop import templates
from synthloop.records import Candidate, Decision
from synthloop.unit_tests import code_in, run_tests

VERIFIES = True

_JINJA = templates.sandbox()


class Config(BaseModel):
    """`template` stands in where a candidate has no tests of its own; `limits` hold for one candidate's tests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str | None = None
    limits: Limits = Limits()

    @field_validator("template")
    @classmethod
    def _compiles(cls, template: str | None) -> str | None:
        if (mistake := templates.syntax_error(template or "")) is not None:
            raise ValueError(mistake)
        return template


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    if not batch:
        return []
    sandbox.require()
    codes = [code_in(one.completion) for one in batch]
    tests = [[] if code is None else tests_of(cfg, one, ctx) for one, code in zip(batch, codes, strict=True)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(partial(_decide, cfg), codes, tests))


def tests_of(cfg: Config, one: Candidate, ctx: FilterContext) -> list[str]:
    """The candidate's tests, from the first place that has any."""
    own = one.lineage.get("tests")
    if not own and one.seed_id in ctx.seeds:
        real = ctx.seeds[one.seed_id].example
        problem, asked = ctx.compared([real, one])
        own = real.meta.get("tests") if problem == asked else None
    if own or cfg.template is None:
        return list(own or ())
    return [templates.render(_JINJA.from_string(cfg.template), "execute.template", {"candidate": one})]


def _decide(cfg: Config, code: str | None, tests: Sequence[str]) -> Decision:
    if code is None:
        return refuse("no code: the completion has no Python block")
    if not tests:
        return refuse("no tests: neither the candidate nor its seed has any, and no template is set")
    verdict = run_tests(code, tests, partial(sandbox.run_python, limits=cfg.limits))
    score = verdict.passed / verdict.total
    return Decision(keep=True, score=score) if verdict.ok else refuse(f"{verdict.kind}: {verdict.feedback}", score)
