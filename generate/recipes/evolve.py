"""Real problems made harder or broader step by step, failed evolutions dropped.

Evol-Instruct (Xu et al., 2023, arXiv:2304.12244, section 3): each of `num_steps` draws an operator, one of five that
deepen (constraints, deepen, concretise, reasoning, complicate_input) or the one that broadens, and evolves the text
that the step before left. An evolution fails when it copies words of the prompt, when the `judge` sees no information
gain, when no majority answers it, or when the answer is a refusal ('sorry' in fewer than 80 words) or has no content
word; the next step then starts from its parent again. Every evolution that did not fail is a sample.

    generate: {recipes: [{name: evolve, num_steps: 3, num_solutions: 4}]}

It starts from train problems only: an evolved problem keeps most of its parent's words, and a failure of the probe
split is held out. Limits: the paper takes 4 steps; small teachers write problems that have no answer well before that,
which the votes find only as far as they disagree. `novelty` refuses evolutions that add too little to a real problem.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any, Literal

from pydantic import BaseModel, Field

from generate.context import Ask, Context, Conversation, Reject, Reply
from generate.gates import flaw, malformed
from generate.voting import VotingConfig, solve
from synthloop.plugins import RoleName
from synthloop.records import Candidate, Seed
from synthloop.similarity import normalise, words

SEEDS = "non_failures"

Operator = Literal["constraints", "deepen", "concretise", "reasoning", "complicate_input", "broaden"]

LEAKS = re.compile(r"<problem>|#\w+ prompt#|\b(given|rewritten|evolved|original|created) (prompt|problem)\b", re.I)
"""The paper's 'given prompt', 'rewritten prompt' and '#Rewritten Prompt#', in the words of our prompts too."""
REFUSAL_WORDS = 80
"""'sorry' in a reply shorter than this is a refusal (section 3, elimination evolving)."""
STOP_WORDS = frozenset(words("an and are as at be but by for in is it of on or so that the this to was will with"))
"""Frequent words that are no answer alone; single letters may be one (chosen, not measured)."""


class Config(VotingConfig):
    """Settings: those of the vote; `operators` are drawn from evenly, one named twice twice as often."""

    judge: RoleName = "teacher"
    num_steps: int = Field(default=3, gt=0)
    operators: tuple[Operator, ...] = Field(
        default=("constraints", "deepen", "concretise", "reasoning", "complicate_input", "broaden"), min_length=1
    )
    judge_sampling: dict[str, Any] = Field(default={"temperature": 0.0})


class Comparison(BaseModel):
    """The judge's reply: reasons first."""

    difference: str
    verdict: Literal["equal", "not equal"]


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    draw, problem = ctx.rng("operators"), ctx.conversation(seed.example)
    path: list[str] = []
    outcomes: list[Candidate | Reject] = []
    for _ in range(cfg.num_steps):
        operator = draw.choice(cfg.operators)
        template = "evolve_breadth.jinja" if operator == "broaden" else "evolve_depth.jinja"
        evolved = yield ctx.ask("teacher", template, problem=problem, operator=operator, sampling=cfg.problem_sampling)
        if (
            reason := flaw(evolved, "new problem")
            or _copied(problem, evolved)
            or (yield from _no_gain(problem, evolved, ctx))
        ):
            outcomes.append(ctx.reject(reason))
            continue
        outcome = yield from solve(evolved, ctx, lineage={"operators": [*path, operator]})
        if isinstance(outcome, Candidate):
            if reason := _refused(outcome.completion):
                outcome = ctx.reject(reason)
            else:
                problem, path = evolved, [*path, operator]
        outcomes.append(outcome)
    return outcomes


def _copied(problem: str, evolved: str) -> str | None:
    """Why `evolved` is no text of its own, if it is none."""
    if normalise(evolved) == normalise(problem):
        return "no gain: the text is the same"
    leaked = LEAKS.search(evolved)
    return f"prompt copied: contains {leaked[0]!r}" if leaked and leaked[0] not in problem else None


def _no_gain(problem: str, evolved: str, ctx: Context) -> Generator[Ask, Reply, str | None]:
    """Why `evolved` gains nothing over `problem`, if the judge says so."""
    cfg: Config = ctx.config
    reply = yield ctx.ask(
        cfg.judge,
        "evolve_judge.jinja",
        problem=problem,
        evolved=evolved,
        schema=Comparison,
        sampling=cfg.judge_sampling,
    )
    comparison = reply.read(Comparison)
    if comparison is None:
        return malformed("judge's verdict", reply)
    return "no gain: the judge calls them equal" if comparison.verdict == "equal" else None


def _refused(answer: str) -> str | None:
    """Why `answer` is none, by the rules of the paper."""
    found = [word for word in words(answer) if any(map(str.isalnum, word))]
    if "sorry" in found and len(found) < REFUSAL_WORDS:
        return "refusal: the answer says sorry"
    return None if set(found) - STOP_WORDS else "no content: the answer is punctuation and stop words"
