"""Coding problems, solved by code that is run, explained and fixed until it passes its tests.

Self-Debug (Chen et al., 2023, arXiv:2304.05128, figure 1): the `coder` writes code; the sandbox runs the tests; where
one fails the coder is told which and what came of it, explains what its code does and why that fails, and writes it
anew, at most `max_turns` times. Executed tests decide. The teacher writes a new problem with its tests; a train row
whose example carries tests (`meta.tests`) is solved as it is (`use_real`), a failure never, as it is held out.

    generate: {recipes: [{name: self_debug, coder: teacher, max_turns: 3, num_shown: 1}]}

The sample is problem and final code; what went wrong before is in `lineage.turns`. Written tests are refused where one
is no Python or a function that does nothing passes them all; wrong ones are not seen, they mostly end as 'failed'.

Each run holds up the driver for about 0.1 s while engines work on, code that never ends for `limits.cpu_s`: 10,000 runs
take some 20 minutes. Needs Linux (`generate/sandbox.py`). Leave `novelty` out: it refuses real problems as copies.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from generate import sandbox
from generate.context import Ask, Context, Conversation, Reject, Reply
from generate.gates import malformed
from generate.sandbox import Limits
from synthloop.plugins import RoleName
from synthloop.records import Message, Seed
from synthloop.unit_tests import Verdict, code_in, fenced, run_tests, statement

SEEDS = "any"


class Config(BaseModel):
    """`max_turns` fixes (the paper allows 10, section 4, and finds that most come within 3), `num_shown` tests that the
    problem shows (1 in the paper, for MBPP), and what one run may use (chosen, not measured)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    coder: RoleName = "teacher"
    max_turns: int = Field(default=3, ge=0)
    num_shown: int = Field(default=1, ge=0)
    use_real: bool = True
    limits: Limits = Limits(wall_s=15, cpu_s=5)
    problem_sampling: dict[str, Any] = {}
    solve_sampling: dict[str, Any] = {}


class Proposal(BaseModel):
    """A new problem; every test calls `function`."""

    problem: str = Field(max_length=800)
    function: str
    tests: list[str] = Field(min_length=3, max_length=5)


class Problem(NamedTuple):
    """What is to be solved: its text as tasks hold it, the turns that put it, its tests and where it comes from."""

    text: str
    messages: Sequence[Message]
    tests: list[str]
    source: str


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    sandbox.require()
    problem = yield from pose(seed, ctx)
    if isinstance(problem, Reject):
        return problem
    given: dict[str, Any] = {"messages": problem.messages, "sampling": cfg.solve_sampling}
    answer = yield ctx.ask(cfg.coder, "self_debug_solve.jinja", **given)
    turns: list[dict[str, str]] = []
    while not (verdict := judge(answer, problem.tests, cfg)).ok:
        if answer.truncated or len(turns) == cfg.max_turns:
            return ctx.reject(f"{'truncated' if answer.truncated else verdict.kind}: {verdict.feedback}")
        told = {"answer": answer, "feedback": verdict.feedback, **given}
        explanation = yield ctx.ask(cfg.coder, "self_debug_explain.jinja", **told)
        turns.append({"answer": answer, "feedback": verdict.feedback, "explanation": explanation})
        answer = yield ctx.ask(cfg.coder, "self_debug_fix.jinja", explanation=explanation, **told)
    return ctx.candidate(
        problem.text,
        fenced(code_in(answer) or ""),
        messages=problem.messages,
        scores={"turns": len(turns)},
        lineage={"problem_from": problem.source, "tests": problem.tests, "turns": turns},
    )


def pose(seed: Seed, ctx: Context) -> Generator[Ask, Reply, Problem | Reject]:
    """The train row itself where it carries tests, else a new problem by the teacher."""
    cfg: Config = ctx.config
    real = seed.example
    if cfg.use_real and seed.response is None and real.meta.get("tests"):
        return Problem(real.input, real.messages, list(real.meta["tests"]), "train")
    reply = yield ctx.ask("teacher", "self_debug_problem.jinja", schema=Proposal, sampling=cfg.problem_sampling)
    proposal = reply.read(Proposal)
    if proposal is None or not proposal.problem.strip():
        return ctx.reject(malformed("problem", reply))
    if flaw := flaw_of(proposal, cfg):
        return ctx.reject(f"bad tests: {flaw}")
    text = statement(proposal.problem.strip(), proposal.tests[: cfg.num_shown])
    return Problem(text, ctx.task.messages(text), proposal.tests, "teacher")


def flaw_of(proposal: Proposal, cfg: Config) -> str | None:
    """Why the tests can't decide anything; None where they can."""
    if not proposal.function.isidentifier():
        return f"{proposal.function!r} is no name of a function"
    if not all(f"{proposal.function}(" in test for test in proposal.tests):
        return f"one does not call {proposal.function}"
    idle = f"def {proposal.function}(*args, **kwargs):\n    return None"
    verdict = run_tests(idle, proposal.tests, partial(sandbox.run_python, limits=cfg.limits))
    if verdict.broken:
        return f"{verdict.broken} of {verdict.total} are no Python"
    return "a function that does nothing passes them" if verdict.ok else None


def judge(answer: Reply, tests: Sequence[str], cfg: Config) -> Verdict:
    """What came of running the answer's code."""
    code = code_in(answer)
    if code is None or answer.truncated:
        why = "The reply was cut off." if answer.truncated else "The reply has no Python code block."
        return Verdict(0, len(tests), "failed", why)
    return run_tests(code, tests, partial(sandbox.run_python, limits=cfg.limits))
