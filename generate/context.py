"""What a recipe talks to: it asks, and ends with a candidate or a refusal.

    def run(seed: Seed, ctx: Context) -> Conversation:
        problem = yield ctx.ask("teacher", "repair.jinja")
        votes = yield [ctx.ask("teacher", "solve.jinja", problem=problem, sample=i) for i in range(4)]
        return ctx.candidate(problem, votes[0], votes=[ctx.parse(problem, vote) for vote in votes])

A conversation ends with one outcome or a list of them.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

from generate.asking import Ask, Asker, Desk, Reply
from synthloop import problems
from synthloop.records import Candidate, Example, Message, Score, Seed
from synthloop.task import Task

__all__ = ["Ask", "Context", "Conversation", "Desk", "Outcome", "Reject", "Reply"]


class Reject(NamedTuple):
    """A conversation that came to nothing, and why. What stands before a colon in `reason` is counted as its kind."""

    reason: str


Outcome = Candidate | Reject | Sequence[Candidate | Reject]
Conversation = Generator[Ask | list[Ask], Any, Outcome]
"""A running recipe: it is sent a `Reply` for an `Ask`, a `list[Reply]` for a list of them."""


def shown_answers(seed: Seed, task: Task) -> Sequence[Example]:
    """The rows whose answers show a solver the form: the seed's own where it has no demonstrations, as long as that
    does not give away what is asked, a label. Prompts see them as `shown`, where a recipe asks."""
    return seed.demonstrations or (() if task.labels else (seed.example,))


class Context(Asker):
    """One conversation's view: its seed, its recipe's `config`, the `task`, and the record of what it asked."""

    def __init__(self, desk: Desk, seed: Seed, config: Any) -> None:
        super().__init__(desk, seed.id, {"seed": seed, "shown": shown_answers(seed, desk.task)})
        real = (seed.example, *seed.demonstrations)
        self._variables["are_conversations"] = any(self.conversation(one) != one.input for one in real)
        self.config = config
        self.seed = seed
        self._num_candidates = 0

    @property
    def id(self) -> str:
        """The id of the conversation, and of its first candidate."""
        return f"r{self._desk.round:03d}-{self.seed.id}"

    def conversation(self, row: Example) -> str:
        """The whole problem of a real row, as prompts show it: its `input`, or its turns where they are more."""
        return problems.shown(row, self.task.config.system)

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
        messages: Sequence[Message] | None = None,
        rejected: str | None = None,
        scores: Mapping[str, float] | None = None,
        sources: Sequence[str] = (),
        lineage: Mapping[str, Any] | None = None,
    ) -> Candidate | Reject:
        """The sample this conversation made, or a refusal where it is deeper than `generate.max_depth`.

        Args:
            answer: the short answer of `completion`; by default what the scorer finds in it.
            votes: the parsed answers of independent solutions.
            gold: whether `answer` comes from real data.
            messages: the turns before `completion`, where they are more than the task's prompt over `input`.
            rejected: a worse completion than `completion`, for preference training.
            scores: what the recipe measured of it.
            sources: ids of other material it was made from (documents).
            lineage: what else is worth keeping of where it comes from.
        """
        depth = max(self.seed.depth, self._asked_depth) + 1
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
            messages=self.task.messages(input) if messages is None else tuple(messages),
            completion=str(completion),
            rejected=None if rejected is None else str(rejected),
            answer=found,
            gold=gold,
            votes=tuple(votes),
            scores=dict(scores or {}),
            # Where the slice is the label itself, the new sample's slice is its own label.
            slice=found if real.slice is not None and real.slice == real.answer else real.slice,
            depth=depth,
            truncated=any(isinstance(text, Reply) and text.truncated for text in (input, completion)),
            lineage={
                "seed": self.seed.id,
                "source_ids": [real.id, *(one.id for one in self.seed.demonstrations), *sources],
                "requests": list(dict.fromkeys(self._keys)),
                "roles": sorted(self._roles),
                "prompts": sorted(self._prompts),
                **(lineage or {}),
            },
        )

    def reject(self, reason: str) -> Reject:
        """End the conversation without a sample. Write 'kind: detail'; the funnel counts kinds."""
        return Reject(reason)
