"""Problems that somebody would ask: a persona with memories, reflections and a plan for the day.

Generative Agents (Park et al., 2023, arXiv:2304.03442) on a persona that the teacher infers from the seed's problem.
There is no collection of personas, as Persona Hub has (Ge et al., 2024, arXiv:2406.20094). The teacher invents who
would come upon such a problem and what they have lately seen, each memory with a grade of importance. Where those
grades add up to `reflect_at`, higher conclusions are drawn from the most salient memories and join the stream. A plan
for the day follows; each of its steps retrieves what comes to mind (`generate/memory.py` has the paper's equation) and
asks one problem, which is remembered in turn. Every problem is then solved `num_solutions` times, as in `variation`.

    generate: {recipes: [{name: personas, share: 0.2, num_problems: 2, num_memories: 4}]}

Simpler than the paper: one persona and no world, grades come with the memories and not from a request each, relevance
is by words, and a memory lives as long as the conversation. A stereotyped teacher writes stereotyped people.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Any

from pydantic import BaseModel, Field

from generate.context import Ask, Context, Conversation, Outcome
from generate.gates import malformed
from generate.memory import MemoryStream
from generate.voting import VotingConfig, solve
from synthloop.records import Seed

SEEDS = "any"

ASKED_IMPORTANCE = 3
"""Of having asked a problem: above the mundane, so that the next one differs; chosen, not measured."""

Grade = Annotated[int, Field(ge=1, le=10)]


class Config(VotingConfig):
    """`num_problems` steps of the plan, each with the `num_memories` most salient memories.

    `reflect_at` is the sum of grades from which there is a reflection. The paper has 150 over some hundred
    observations; a persona here starts with at most six, hence 20 (chosen, not measured).
    """

    num_problems: int = Field(default=2, gt=0, le=6)
    num_memories: int = Field(default=4, gt=0)
    reflect_at: int = Field(default=20, ge=0)


class Observation(BaseModel):
    text: str
    hours_ago: int = Field(ge=0, le=168)
    importance: Grade


class Persona(BaseModel):
    description: str
    observations: list[Observation] = Field(min_length=3, max_length=6)


class Insight(BaseModel):
    text: str
    importance: Grade


class Reflection(BaseModel):
    insights: list[Insight] = Field(min_length=1, max_length=3)


class Plan(BaseModel):
    steps: list[str] = Field(min_length=1, max_length=6)


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    reply = yield ctx.ask("teacher", "personas_persona.jinja", schema=Persona)
    if (persona := reply.read(Persona)) is None:
        return ctx.reject(malformed("persona", reply))
    who, stream = persona.description, MemoryStream()
    for seen in persona.observations:
        stream.add(seen.text, seen.importance, -seen.hours_ago)

    def think(template: str, schema: type[BaseModel]) -> Ask:
        """About oneself, now: hour 0."""
        memories = stream.retrieve(who, 0, cfg.num_memories)
        return ctx.ask("teacher", template, schema=schema, who=who, memories=memories, num_steps=cfg.num_problems)

    if stream.importance >= cfg.reflect_at:
        reply = yield think("personas_reflect.jinja", Reflection)
        if (reflection := reply.read(Reflection)) is None:
            return ctx.reject(malformed("reflection", reply))
        for insight in reflection.insights:
            stream.add(insight.text, insight.importance, 0)
    reply = yield think("personas_plan.jinja", Plan)
    if (plan := reply.read(Plan)) is None:
        return ctx.reject(malformed("plan", reply))
    return (yield from live(who, plan.steps[: cfg.num_problems], stream, ctx))


def live(who: str, steps: list[str], stream: MemoryStream, ctx: Context) -> Generator[Any, Any, Outcome]:
    """One problem in each hour of the day, out of the step and what it brings to mind."""
    cfg: Config = ctx.config
    outcomes: list[Any] = []
    for hour, step in enumerate(steps, 1):
        memories, sampling = stream.retrieve(step, hour, cfg.num_memories), cfg.problem_sampling
        problem = yield ctx.ask(
            "teacher", "personas_ask.jinja", who=who, step=step, memories=memories, sampling=sampling
        )
        lineage = {"persona": who, "step": step, "memories": memories}
        outcomes.append((yield from solve(problem, ctx, lineage=lineage)))
        if not problem.truncated:
            stream.add(f"I asked: {problem}", ASKED_IMPORTANCE, hour)
    return outcomes
