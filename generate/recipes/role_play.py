"""Two roles in conversation until a task is done: samples of several turns.

After CAMEL (Li et al., 2023, arXiv:2303.17760). From the seed the teacher makes up a task, who instructs and who
carries out. The user role knows the task and instructs step by step; the assistant role sees only what it is told, as
the student will. When the user calls the task done, or in turn `max_turns`, the user asks for the whole result in the
task's own prompt. It is answered `num_solutions` times: the completion is the first that gives the majority's answer,
and `messages` is the conversation before it.

    generate: {recipes: [{name: role_play, share: 0.2, max_turns: 4, num_solutions: 4, user: teacher,
         assistant: teacher}]}

Simpler than the paper: role and task come from the seed and not from lists, the prompts have none of its inception
rules ("never flip roles"), and no filter looks for flipped roles or loops. The votes agree on the last turn alone; what
the assistant said before is not verified. `input`, which filters compare with held-out texts, is the whole conversation
before the completion.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from generate.context import Ask, Context, Conversation, Reject
from generate.gates import malformed
from generate.voting import VotingConfig, majority
from synthloop.plugins import RoleName
from synthloop.records import Message, Seed

SEEDS = "any"


class Config(VotingConfig):
    """Who plays the two roles, and the turns of the user at most (CAMEL has 40 messages; 4 is chosen, not measured).

    `problem_sampling` is for the user's turns, `solve_sampling` for the assistant's.
    """

    user: RoleName = "teacher"
    assistant: RoleName = "teacher"
    max_turns: int = Field(default=4, ge=2)


class Cast(BaseModel):
    user_role: str
    assistant_role: str
    task: str = Field(max_length=600)


class UserTurn(BaseModel):
    task_done: bool
    message: str = Field(max_length=600)


class Talk(NamedTuple):
    """What was said before the last request, and that request."""

    history: list[Message]
    request: str
    task_done: bool


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    reply = yield ctx.ask("teacher", "role_play_cast.jinja", schema=Cast)
    if (cast := reply.read(Cast)) is None:
        return ctx.reject(malformed("cast", reply))
    talk = yield from converse(cast, ctx)
    if isinstance(talk, Reject):
        return talk

    # The last request stands in the task's own prompt, which says how the answer is to be given.
    *system, request = ctx.task.messages(talk.request)
    history = [*talk.history, request]
    results = yield [ask_assistant(cast, history, ctx, sample=i) for i in range(cfg.num_solutions)]
    votes = [None if one.truncated else ctx.parse(cast.task, one) for one in results]
    answer = majority(votes)
    if answer is None:
        return ctx.reject("no answer: no result of the task has one that parses")
    return ctx.candidate(
        "\n\n".join(turn["content"] for turn in history),
        results[votes.index(answer)],
        answer=answer,
        votes=votes,
        messages=[*system, *history],
        lineage={
            "cast": cast.model_dump(),
            "num_turns": len(talk.history) // 2 + 1,
            "task_done": talk.task_done,
        },
    )


def converse(cast: Cast, ctx: Context) -> Generator[Ask, Any, Talk | Reject]:
    """User and assistant in turns, up to the request for the whole result."""
    cfg: Config = ctx.config
    history: list[Message] = []
    for turn in range(1, cfg.max_turns + 1):
        last, sampling = turn == cfg.max_turns, cfg.problem_sampling
        asked = ctx.ask(
            cfg.user, "role_play_user.jinja", schema=UserTurn, cast=cast, history=history, last=last, sampling=sampling
        )
        turned = yield asked
        if (said := turned.read(UserTurn)) is None:
            return ctx.reject(malformed("user's turn", turned))
        if said.task_done or last:
            break
        history.append(Message(role="user", content=said.message))
        reply = yield ask_assistant(cast, history, ctx)
        if reply.truncated:
            return ctx.reject("truncated: a turn of the assistant hit max_tokens")
        if not reply:
            return ctx.reject("empty: a turn of the assistant has no text")
        history.append(Message(role="assistant", content=str(reply)))
    if not history:
        return ctx.reject("single turn: the user called the task done before any of it was")
    return Talk(history, said.message, said.task_done)


def ask_assistant(cast: Cast, history: list[Message], ctx: Context, sample: int = 0) -> Ask:
    """The assistant's next turn. It knows its role and what was said, and not the task: nor will the student."""
    cfg: Config = ctx.config
    who, sampling = cast.assistant_role, cfg.solve_sampling
    return ctx.ask(
        cfg.assistant, "role_play_assistant.jinja", who=who, history=history, sample=sample, sampling=sampling
    )
