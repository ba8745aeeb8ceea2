"""Think, call a tool, see what it says, until the answer: one trajectory of a model with tools.

ReAct: Synergizing Reasoning and Acting in Language Models (Yao et al., 2022, arXiv:2210.03629, figure 1).

A model replies with JSON, {"thought": ..., "action": {"tool": ..., "arguments": {...}}} or {"thought": ..., "action":
{"answer": ...}}. In a sample the same stands as plain turns of user and assistant, which every chat template takes:
the tools before the problem, a call as `<tool_call>` in the assistant's turn, its result as `<tool_response>` in the
user's. They are the tags of Hermes and Qwen2.5, whose own templates write tool turns just so.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from functools import cached_property
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model, field_validator

from generate.context import Ask, Context, Reply
from generate.gates import malformed
from generate.sandbox import Limits
from generate.tools import Tool, guide, invoke, misfit, named
from synthloop.plugins import RoleName
from synthloop.records import Message
from synthloop.storable import loads

INTRODUCTION = """\
You can call these tools, one at a time:
<tools>
{tools}
</tools>
To call one, end your reply with
<tool_call>
{{"name": ..., "arguments": ...}}
</tool_call>
You are then given its result, and go on.

"""
"""What stands before the problem in a sample."""


def _decoded(arguments: object) -> object:
    """The object in `arguments` that are written as text, as OpenAI's protocol has them; anything else as it is."""
    try:
        return loads(arguments, strict=False) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments


class Call(BaseModel):
    """A call; its `arguments` are an object, whether they came as one or as its text."""

    tool: str
    arguments: Annotated[dict[str, Any], BeforeValidator(_decoded)]


class Final(BaseModel):
    model_config = ConfigDict(extra="forbid")

    answer: str = Field(max_length=1500)


class Step(BaseModel):
    """One reply of the solver: the thought first, so that the action follows from it."""

    thought: str
    action: Call | Final


class ActingConfig(BaseModel):
    """Who solves, with which tools, in how many steps, and what one call may use (chosen, not measured).

    A result is cut to `max_result_chars`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    solver: RoleName = "teacher"
    tools: tuple[Annotated[Tool, BeforeValidator(named)], ...] = Field(min_length=1)
    max_steps: int = Field(default=6, gt=1)
    max_result_chars: int = Field(default=1000, gt=0)
    limits: Limits = Limits(wall_s=15, cpu_s=5)
    solve_sampling: dict[str, Any] = {}

    @field_validator("tools")
    @classmethod
    def _distinct(cls, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
        if len({tool.name for tool in tools}) < len(tools):
            raise ValueError("two tools have the same name")
        return tools

    @cached_property
    def step(self) -> type[Step]:
        """`Step`, whose JSON schema names the tools, with arguments of about their schemas: what guides a reply."""
        calls = [
            {
                "type": "object",
                "properties": {"tool": {"const": tool.name}, "arguments": guide(tool.parameters)},
                "required": ["tool", "arguments"],
                "additionalProperties": False,
            }
            for tool in self.tools
        ]
        actions = WithJsonSchema({"anyOf": [*calls, Final.model_json_schema()]})
        return create_model("GuidedStep", __base__=Step, action=(Annotated[Call | Final, actions], ...))


class Done(NamedTuple):
    """A call that was made: the reply it stood in, and what the tool said, or the error where it did not `fit`."""

    reply: str
    thought: str
    call: Call
    result: str
    fits: bool


class Trajectory(NamedTuple):
    """The calls, and the answer they led to; None, with the reason in `failure`, where they led to none."""

    calls: list[Done]
    answer: str | None
    failure: str = ""


def act(messages: Sequence[Message], number: int, new: bool, ctx: Context) -> Generator[Ask, Reply, Trajectory]:
    """Have the solver try the problem that `messages` put. The first call that fits no schema is told so, a second ends
    the trajectory.

    Args:
        number: tells trajectories of one problem apart.
        new: whether the problem is another than the seed's, so that the seed's own solution may be shown.
    """
    cfg: ActingConfig = ctx.config
    calls: list[Done] = []
    given: dict[str, Any] = {"tools": cfg.tools, "messages": messages, "new": new, "sampling": cfg.solve_sampling}
    for left in reversed(range(cfg.max_steps)):
        reply = yield ctx.ask(
            cfg.solver, "tool_use_step.jinja", schema=cfg.step, sample=number, calls=tuple(calls), left=left, **given
        )
        step = reply.read(Step)
        if step is None:
            return Trajectory(calls, None, malformed("step", reply))
        if isinstance(step.action, Final):
            return Trajectory(calls, step.action.answer.strip() or None, "empty: the answer has no text")
        result, fits = _result(step.action, cfg)
        if not fits and not all(one.fits for one in calls):
            return Trajectory(calls, None, f"bad call: {result}")
        calls.append(Done(reply, step.thought, step.action, result, fits))
    return Trajectory(calls, None, f"unfinished: no answer in {cfg.max_steps} steps")


def _result(call: Call, cfg: ActingConfig) -> tuple[str, bool]:
    """(What the solver is told of the call, whether it fitted and was made)."""
    tool = next((one for one in cfg.tools if one.name == call.tool), None)
    if tool is None:
        return f"Error: there is no tool {call.tool[:64]!r}.", False
    if wrong := misfit(tool, call.arguments):
        return f"Error: the call does not fit the tool's schema. {wrong}", False
    return invoke(tool, call.arguments, cfg.limits, cfg.max_result_chars), True


def turns(messages: Sequence[Message], calls: Sequence[Done], known: Sequence[Tool]) -> list[Message]:
    """The turns of a sample before its answer: the problem with the tools before it, the calls and their results."""
    *before, problem = messages
    introduction = INTRODUCTION.format(tools="\n".join(tool.signature for tool in known))
    shown = [*before, Message(role="user", content=introduction + problem["content"])]
    for one in calls:
        call = json.dumps({"name": one.call.tool, "arguments": one.call.arguments}, ensure_ascii=False)
        said = f"{one.thought.strip()}\n<tool_call>\n{call}\n</tool_call>".strip()
        shown.append(Message(role="assistant", content=said))
        shown.append(Message(role="user", content=f"<tool_response>\n{one.result}\n</tool_response>"))
    return shown
