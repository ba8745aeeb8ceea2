"""What a filter is given: the candidates of a round as a batch, and the material to compare them with.

    def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]

A filter sees what the filters before it kept, in order, and gives one `Decision` for each. A reason reads 'kind:
detail'; the funnel counts kinds. `score` is what the decision was taken on, where there is a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from synthloop.records import Candidate, Decision, Example, Seed
from synthloop.store import Run, read_rows
from synthloop.task import Task, open_task

REAL = ("train", "probe", "gate", "test")
HELD_OUT = ("probe", "gate", "test")

KEEP = Decision(keep=True)


def refuse(reason: str, score: float | None = None) -> Decision:
    """A refusal. `reason` reads 'kind: detail'."""
    return Decision(keep=False, reason=reason, score=score)


class FilterContext:
    """The run as filters see it; what is not asked for is not read."""

    def __init__(self, run: Run, round: int) -> None:
        self.run = run
        self.round = round
        self.task: Task = open_task(run.config.task.name, run.config.task.settings)

    def real(self, split: str) -> list[Example]:
        """The real rows of a split."""
        return read_rows(self.run.split(split), Example)

    @cached_property
    def seeds(self) -> dict[str, Seed]:
        """The round's seeds by id."""
        return {seed.id: seed for seed in read_rows(self.run.round_dir(self.round) / "seeds.jsonl", Seed)}

    def earlier(self) -> Iterator[Candidate]:
        """What curation kept in earlier rounds, accepted or not, oldest first."""
        for round in self.run.rounds():
            if round < self.round and self.run.stage(round, "curate").is_complete:
                yield from read_rows(self.run.round_dir(round) / "curated.jsonl", Candidate)

    def score_example(self, candidate: Candidate) -> Example:
        """The candidate as an example of the task, for its scorer."""
        return Example(
            id=candidate.id,
            input=candidate.input,
            messages=candidate.messages,
            completion=candidate.completion,
            answer=candidate.answer,
            slice=candidate.slice,
        )
