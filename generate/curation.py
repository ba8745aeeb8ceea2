"""What a filter is given: the candidates of a round as a batch, and the material to compare them with.

    def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]

A filter sees what the filters before it kept, in order, and gives one `Decision` for each. A reason reads 'kind:
detail'; the funnel counts kinds. `score` is what the decision was taken on, where there is a number; a kept candidate
carries it on under the filter's name.

A filter that asks a model does it in conversations, written as a recipe is, and names the role in its `Config`:

    class Config(BaseModel):
        role: RoleName = "judge"

    def check(cfg, batch, ctx):
        def judge(one: Candidate, asker: Asker) -> Judging:
            reply = yield asker.ask(cfg.role, "judge.jinja", schema=Verdict)
            ...
            return KEEP
        return ctx.converse("judge", batch, judge)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, cast

from generate.asking import Ask, Asker, Desk
from generate.context import Reject
from generate.driver import drive
from generate.prompts import Prompts
from generate.roles import Engines, Roles
from synthloop import problems
from synthloop.journal import Journal
from synthloop.problems import Problem
from synthloop.records import Candidate, Decision, Example, Seed
from synthloop.refusals import Refusals
from synthloop.store import Run, read_rows
from synthloop.task import Task, open_task

REAL = ("train", "probe", "gate", "test")
HELD_OUT = ("probe", "gate", "test")

KEEP = Decision(keep=True)


def refuse(reason: str, score: float | None = None) -> Decision:
    """A refusal. `reason` reads 'kind: detail'."""
    return Decision(keep=False, reason=reason, score=score)


Judging = Generator[Ask | list[Ask], Any, Decision]
"""A filter's conversation about one candidate: yields asks as a recipe does, and ends with its decision."""


class FilterContext:
    """The run as filters see it; what is not asked for is not read, and no engine is opened before it is asked.

    `usage` counts what its conversations cost, replies from the journal included; `errors` are requests that no engine
    served.
    """

    def __init__(self, run: Run, round: int) -> None:
        self.run = run
        self.round = round
        self.task: Task = open_task(run.config.task.name, run.config.task.settings)
        self.usage = dict.fromkeys(("requests", "prompt_tokens", "completion_tokens", "errors", "unread"), 0)
        self.error_messages: list[dict[str, Any]] = []
        self._engines: Engines | None = None

    def real(self, split: str) -> list[Example]:
        """The real rows of a split."""
        return read_rows(self.run.split(split), Example)

    def compared(self, rows: Iterable[Problem]) -> list[str]:
        """The problem of each row as the text that is compared with others: whole conversations."""
        return [problems.compared(row, self._shared_system) for row in rows]

    @cached_property
    def _shared_system(self) -> frozenset[str]:
        """The system turns that say nothing of one row: the task's own, and that of most real rows."""
        own = self.task.config.system
        return frozenset({own} if own else ()) | problems.shared_system(
            [row for split in REAL for row in self.real(split)]
        )

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

    def converse(
        self, name: str, batch: Sequence[Candidate], judge: Callable[[Candidate, Asker], Judging]
    ) -> list[Decision]:
        """One conversation `judge(candidate, asker)` for each of `batch`, all in flight together; their decisions.

        Prompts see the candidate as `candidate`. One whose request an engine could not serve is refused, saying so.

        Args:
            name: the filter's, which keeps its requests apart from those of others.

        Raises:
            StageFailed: more of its requests were not served than `max_error_share`.
        """
        if not batch:
            return []
        desk = self._desk
        talks: Iterable[Any] = (judge(one, Asker(desk, f"{name}/{one.id}", {"candidate": one})) for one in batch)
        with Journal(self.run.journal_path, f"{self.round}/curate") as journal:
            limit = self.run.config.generate.max_in_flight
            refusals = Refusals(self.run.config.max_error_share, f"filter {name}")
            outcomes, counts = drive(talks, self.engines, journal, refusals=refusals, max_in_flight=limit)
        self.error_messages += [{"filter": name, **kind} for kind in refusals.kinds()]
        self.usage = {field: number + getattr(counts, field) for field, number in self.usage.items()}
        return [refuse(one.reason) if isinstance(one, Reject) else cast(Decision, one) for one in outcomes]

    @cached_property
    def _desk(self) -> Desk:
        config = self.run.config
        roles, prompts = Roles(self.run, self.round), Prompts(config.generate.prompts)
        return Desk(config.seed, self.round, self.task, roles, prompts, config.generate.max_depth)

    @property
    def devices(self) -> int:
        """Devices that the engines opened so far hold; 0 where no filter asked any."""
        return 0 if self._engines is None else self._engines.devices

    @property
    def engines(self) -> Engines:
        """The engines of the run's roles, kept open from filter to filter."""
        if self._engines is None:
            self._engines = Engines(self._desk.roles.all_members())
        return self._engines

    def free_device(self) -> None:
        """Close the engines where there is a GPU, so that a model outside them finds room on it: vLLM keeps a fixed
        share of the memory for as long as it is open. An engine that is asked again is opened again."""
        import torch

        if self._engines is not None and torch.accelerator.is_available():
            self._engines.close()

    def __enter__(self) -> FilterContext:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._engines is not None:
            self._engines.close()


def whole_texts(ctx: FilterContext, rows: Sequence[Example | Candidate]) -> list[str]:
    """The problem and the completion of each row, as one text."""
    return [f"{problem}\n{one.completion}" for problem, one in zip(ctx.compared(rows), rows, strict=True)]
