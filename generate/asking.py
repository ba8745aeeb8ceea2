"""Asking: what recipes and filters share. An `Asker` makes requests; each is complete when it is made.

Nothing here does I/O: an `Ask` holds its journal key already, so it does not matter to a conversation when, or by which
process, it is answered.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from generate.prompts import Prompts
from generate.roles import JUDGING, Member, Roles
from synthloop import chat, guided
from synthloop.errors import UserError
from synthloop.journal import request_key
from synthloop.randomness import derive_seed, rng
from synthloop.records import Completion, Message, Request
from synthloop.task import Task

M = TypeVar("M", bound=BaseModel)


class Ask(NamedTuple):
    """One request to one engine, and the key the journal holds its reply under.

    `num_given` counts the leading tokens of a scored text that were given, not scored. `schema` is what the reply is
    JSON of, where it was asked for.
    """

    request: Request
    engine: str
    model: str
    key: str
    num_given: int = 0
    schema: type[BaseModel] | None = None


class Reply(str):
    """The text of a completion, surrounding white space stripped; `completion` is all that the engine said of it.

    `unread` says why the last `read` gave None, as "the reply ..." goes on.
    """

    completion: Completion
    logprobs: tuple[float, ...]
    unread: str

    def __new__(cls, completion: Completion, num_given: int = 0) -> Reply:
        reply = super().__new__(cls, completion.text.strip())
        reply.completion, reply.unread = completion, ""
        scored = (completion.prompt_logprobs or ())[num_given:]
        reply.logprobs = tuple(one for one in scored if one is not None)
        return reply

    @property
    def truncated(self) -> bool:
        """Whether the reply was cut off by `max_tokens` or by the context."""
        return self.completion.truncated

    def read(self, schema: type[M]) -> M | None:
        """The reply as an instance of the `schema` it was asked for; None where it is no such JSON."""
        try:
            return guided.read(self.completion, schema)
        except guided.Unreadable as why:
            self.unread = str(why)
            return None


def unread(ask: Ask, reply: Completion) -> str | None:
    """Why the reply to a guided `ask` is not what was asked for; None where it is, or where there is none."""
    if reply.finish_reason == "error":
        return None
    if ask.schema is None:
        return guided.misfit(ask.request.sampling, reply)
    text = Reply(reply)
    return text.unread if text.read(ask.schema) is None else None


class Desk(NamedTuple):
    """What all conversations of a round share."""

    run_seed: int
    round: int
    task: Task
    roles: Roles
    prompts: Prompts
    max_depth: int


class Asker:
    """One conversation's way to the engines, and the record of what it asked.

    `place` tells the conversation apart from all others of the round; the sampling seeds derive from it.
    """

    def __init__(self, desk: Desk, place: str, variables: dict[str, Any]) -> None:
        self.task = desk.task
        self._desk = desk
        self._place = place
        self._variables = variables
        self._keys: list[str] = []
        self._roles: set[str] = set()
        self._prompts: set[str] = set()
        self._asked_depth = 0

    def ask(
        self,
        role: str,
        template: str,
        *,
        sample: int = 0,
        sampling: dict[str, Any] | None = None,
        member: int | None = None,
        schema: type[BaseModel] | None = None,
        **variables: Any,
    ) -> Ask:
        """A request to `role`: the prompt file `template` rendered over `variables` and those of the conversation.

        Each request has a sampling seed of its own, derived from the run's seed, the round, the conversation and the
        place in it; a greedy one has none.

        Args:
            sample: tells apart requests that are otherwise the same (votes).
            sampling: `SamplingParams` over those of the role.
            member: which engine of a committee is asked; by default one drawn for this request.
            schema: the reply is JSON of this model, by guided decoding; take it with `reply.read(schema)`.

        Raises:
            UserError: the role is not in the config, the prompt file does not render, or several samples are asked of
                a greedy role.
        """
        place = (self._desk.run_seed, self._desk.round, self._place, len(self._keys), sample)
        chosen = self._member(role, member, place)
        settings = {**chosen.sampling, **(sampling or {})}
        if schema is not None:
            settings = guided.guide(settings, schema)
        given = {"task_system": self.task.config.system, **self._variables, **variables}
        messages = self._desk.prompts.render(template, **given)
        self._prompts.add(template)
        settings = _seeded(settings, place, f"roles.{role}")
        request = Request(id="", role=role, messages=messages, sampling=settings)
        return self._made(chosen, role, request, sample)._replace(schema=schema)

    def likelihood(self, role: str, messages: Sequence[Message], completion: str, *, member: int | None = None) -> Ask:
        """Have `role` score `completion` as the answer to `messages`.

        The reply's `logprobs` are those (nats) of the completion's tokens, the end of its turn included.
        """
        place = (self._desk.run_seed, self._desk.round, self._place, len(self._keys), 0)
        chosen = self._member(role, member, place)
        tokenizer, kwargs = self._desk.roles.tokenizer(chosen), chosen.config.chat_template_kwargs
        prompt = chat.prompt_ids(tokenizer, messages, **kwargs)
        ids = (*prompt, *chat.completion_ids(tokenizer, messages, completion, **kwargs))
        # One token must be generated; 0 asks for the log-probability of each prompt token and no alternatives.
        sampling = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        request = Request(id="", role=role, prompt_token_ids=ids, sampling=sampling)
        return self._made(chosen, role, request, 0)._replace(num_given=len(prompt))

    def rng(self, *parts: int | str) -> random.Random:
        """A generator of this conversation's own, the same whenever it runs again."""
        return rng(self._desk.run_seed, self._desk.round, self._place, *parts)

    def _member(self, role: str, member: int | None, place: tuple[int | str, ...]) -> Member:
        members = self._desk.roles.members(role)
        return members[(derive_seed("member", *place) if member is None else member) % len(members)]

    def _made(self, member: Member, role: str, request: Request, sample: int) -> Ask:
        id = f"r{self._desk.round:03d}-{self._place}/{len(self._keys)}"
        request = request.model_copy(update={"id": id, "sample_index": sample})
        ask = Ask(request, member.engine, member.config.model, request_key(member.identity, request))
        self._keys.append(ask.key)
        self._roles.add(role)
        if role not in JUDGING:
            self._asked_depth = max(self._asked_depth, member.depth)
        return ask


def _seeded(sampling: dict[str, Any], place: tuple[int | str, ...], role: str) -> dict[str, Any]:
    """`sampling` with the request's own seed; a seed in the config is mixed into it, never used for all requests."""
    if sampling.get("temperature", 1.0) == 0:
        if place[-1] != 0:
            raise UserError(
                f"{role} is greedy (temperature 0), and a recipe asks it for several samples of one prompt: they would "
                "all be the same. Set a temperature in the role's or the recipe's sampling, or ask for one sample."
            )
        return sampling
    return {**sampling, "seed": derive_seed(sampling.get("seed", 0), *place)}
