"""What a recipe talks to: it asks, and ends with a candidate or a refusal.

    def run(seed: Seed, ctx: Context) -> Conversation:
        problem = yield ctx.ask("teacher", "repair.jinja")
        votes = yield [ctx.ask("teacher", "solve.jinja", problem=problem, sample=i) for i in range(4)]
        return ctx.candidate(problem, votes[0], votes=[ctx.parse(problem, vote) for vote in votes])

Nothing here does I/O: an `Ask` is complete when it is made, its journal key included, so it does not matter to a
conversation when, or by which process, it is answered.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

from generate.prompts import Prompts
from generate.roles import JUDGING, Roles
from synthloop.errors import UserError
from synthloop.journal import request_key
from synthloop.randomness import derive_seed
from synthloop.records import Candidate, Completion, Message, Request, Score, Seed
from synthloop.task import Task


class Ask(NamedTuple):
    """One request to one engine, and the key the journal holds its reply under."""

    request: Request
    engine: str
    model: str
    key: str


class Reply(str):
    """The text of a completion, surrounding white space stripped; `completion` is all that the engine said of it."""

    completion: Completion

    def __new__(cls, completion: Completion) -> Reply:
        reply = super().__new__(cls, completion.text.strip())
        reply.completion = completion
        return reply

    @property
    def truncated(self) -> bool:
        """Whether the reply was cut off by `max_tokens` or by the context."""
        return self.completion.truncated


class Reject(NamedTuple):
    """A conversation that came to nothing, and why. What stands before a colon in `reason` is counted as its kind."""

    reason: str


Outcome = Candidate | Reject | Sequence[Candidate | Reject]
Conversation = Generator[Ask | list[Ask], Any, Outcome]
"""A running recipe: it is sent a `Reply` for an `Ask`, a `list[Reply]` for a list of them."""


class Desk(NamedTuple):
    """What all conversations of a round share."""

    run_seed: int
    round: int
    task: Task
    roles: Roles
    prompts: Prompts
    max_depth: int


class Context:
    """One conversation's view: its seed, its recipe's `config`, the `task`, and the record of what it asked."""

    def __init__(self, desk: Desk, seed: Seed, config: Any) -> None:
        self.task = desk.task
        self.config = config
        self.seed = seed
        self._desk = desk
        self._depth = seed.depth
        self._keys: list[str] = []
        self._roles: set[str] = set()
        self._prompts: set[str] = set()
        self._num_candidates = 0

    @property
    def id(self) -> str:
        """The id of the conversation, and of its first candidate."""
        return f"r{self._desk.round:03d}-{self.seed.id}"

    def ask(
        self,
        role: str,
        template: str,
        *,
        sample: int = 0,
        sampling: dict[str, Any] | None = None,
        member: int | None = None,
        **variables: Any,
    ) -> Ask:
        """A request to `role`: the prompt file `template` rendered over `seed` and `variables`.

        Each request has a sampling seed of its own, derived from the run's seed, the round, the conversation and the
        place in it; a greedy one has none.

        Args:
            sample: tells apart requests that are otherwise the same (votes).
            sampling: `SamplingParams` over those of the role.
            member: which engine of a committee is asked; by default one drawn for this request.

        Raises:
            UserError: the role is not in the config, the prompt file does not render, or several samples are asked of
                a greedy role.
        """
        members = self._desk.roles.members(role)
        place = (self._desk.run_seed, self._desk.round, self.seed.id, len(self._keys), sample)
        chosen = members[(derive_seed("member", *place) if member is None else member) % len(members)]
        request = Request(
            id=f"{self.id}/{len(self._keys)}",
            role=role,
            messages=self._render(template, variables),
            sampling=_seeded({**chosen.sampling, **(sampling or {})}, place, f"roles.{role}"),
            sample_index=sample,
        )
        ask = Ask(request, chosen.engine, chosen.config.model, request_key(chosen.identity, request))
        self._keys.append(ask.key)
        self._roles.add(role)
        self._prompts.add(template)
        if role not in JUDGING:
            self._depth = max(self._depth, chosen.depth)
        return ask

    def _render(self, template: str, variables: dict[str, Any]) -> tuple[Message, ...]:
        return self._desk.prompts.render(template, **{"seed": self.seed, **variables})

    def score(self, input: str, text: str, answer: str | None = None) -> Score:
        """What the task's scorer says of the reply `text` to the new problem `input`."""
        return self.task.score(
            self.seed.example.model_copy(
                update={"id": self.id, "input": input, "messages": (), "completion": "", "answer": answer, "meta": {}}
            ),
            text,
        )

    def parse(self, input: str, text: str) -> str | None:
        """The answer that the task's scorer finds in a reply to the new problem `input`; None where there is none."""
        return self.score(input, text).parsed

    def candidate(
        self,
        input: str,
        completion: str,
        *,
        answer: str | None = None,
        votes: Sequence[str | None] = (),
        gold: bool = False,
    ) -> Candidate | Reject:
        """The sample this conversation made, or a refusal where it is deeper than `generate.max_depth`.

        Args:
            answer: the short answer of `completion`; by default what the scorer finds in it.
            votes: the parsed answers of independent solutions.
            gold: whether `answer` comes from real data.
        """
        depth = self._depth + 1
        if depth > self._desk.max_depth:
            return Reject(f"too deep: generation depth {depth} is above generate.max_depth={self._desk.max_depth}")
        id = self.id if self._num_candidates == 0 else f"{self.id}.{self._num_candidates}"
        self._num_candidates += 1
        found = answer if answer is not None else self.parse(input, completion)
        real = self.seed.example
        return Candidate(
            id=id,
            round=self._desk.round,
            recipe=self.seed.recipe,
            seed_id=self.seed.id,
            input=str(input),
            messages=self.task.messages(input),
            completion=str(completion),
            answer=found,
            gold=gold,
            votes=tuple(votes),
            # Where the slice is the label itself, the new sample's slice is its own label.
            slice=found if real.slice is not None and real.slice == real.answer else real.slice,
            depth=depth,
            truncated=any(isinstance(text, Reply) and text.truncated for text in (input, completion)),
            lineage={
                "seed": self.seed.id,
                "source_ids": [real.id, *(one.id for one in self.seed.demonstrations)],
                "requests": list(dict.fromkeys(self._keys)),
                "roles": sorted(self._roles),
                "prompts": sorted(self._prompts),
            },
        )

    def reject(self, reason: str) -> Reject:
        """End the conversation without a sample. Write 'kind: detail'; the funnel counts kinds."""
        return Reject(reason)


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
