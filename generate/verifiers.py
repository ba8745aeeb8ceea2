"""The verifier report: how often each filter that judges answers keeps what is right, and what is wrong.

    found = report(run, round, run.config.curate.filters, size=200)
    flags = recipe_errors(candidates, rejected, run.config.curate.filters, found)

A filter says `VERIFIES = True` to be measured. The sample is labelled by the task's scorer: `size` right answers (train
rows with their gold completions) and `size` wrong ones (the student's own wrong responses in the accepted round's
`failures.jsonl`; where those are too few, train rows with the completion of another row). To the filters they look
like candidates whose answer nobody knows: `answer` is what the completion says, `gold` is false, and a filter that
says `READS_VOTES = True` finds `votes` of the teacher, asked for here as a recipe would.

Limits: gold completions are written by people and a student's errors may be cruder than a teacher's, so both rates
flatter a filter that goes by style. Half of the sample is right; calibration is for that share.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from types import ModuleType
from typing import Any, NamedTuple

from generate.answering import answer
from generate.asking import Asker
from generate.calibration import calibrate
from generate.curation import KEEP, FilterContext, Judging
from generate.driver import ENGINE_ERROR
from synthloop import plugins
from synthloop.config import PluginRef
from synthloop.integrity import is_there
from synthloop.randomness import rng
from synthloop.records import Candidate, Decision, Example, Failure, Rejection, Seed
from synthloop.store import Run, read_rows
from synthloop.task import Task

log = logging.getLogger("synthloop.curate")

NUM_VOTES = 4
"""Solutions of the teacher for each labelled problem: the default of the recipes that vote."""

ERROR_LIMIT = 0.1
"""The share of wrong answers among what the filters keep above which a recipe is flagged (chosen, not measured)."""


class Labelled(NamedTuple):
    """An answer whose rightness is known; `source` says where it comes from: 'gold', 'student' or 'swapped'."""

    example: Example
    completion: str
    other: str
    right: bool
    source: str


class LabelledContext(FilterContext):
    """The run as filters see it, with the labelled sample for the round's seeds; `engines` may be another context's."""

    def __init__(self, run: Run, round: int, sample: Sequence[Labelled], shared: FilterContext | None) -> None:
        super().__init__(run, round)
        self._sample = sample
        self._engines = None if shared is None else shared.engines

    @cached_property
    def seeds(self) -> dict[str, Seed]:
        """A seed for each of the sample, whose example is its own real row."""
        return {
            _name(number): Seed(id=_name(number), recipe="labelled", example=one.example)
            for number, one in enumerate(self._sample)
        }


def _name(number: int) -> str:
    return f"labelled-{number:05d}"


def report(
    run: Run, round: int, filters: Iterable[PluginRef], size: int, shared: FilterContext | None = None
) -> dict[str, Any]:
    """Keep-rates of every filter that verifies, and of all of them together, each with n and a 95% Wilson interval.

    Args:
        size: right answers, and wrong ones, at most; fewer where the data has fewer.
        shared: a context whose open engines are used, and left open.
    """
    named = _verifying(filters)
    if not named:
        return {"sample": {}, "filters": [], "combined": None}
    sample = draw_sample(run, round, size)
    ctx = LabelledContext(run, round, sample, shared)
    try:
        batch = _candidates(sample, ctx, any(getattr(module, "READS_VOTES", False) for _, module in named))
        decisions = [module.check(module.Config(**ref.settings), batch, ctx) for ref, module in named]
    finally:
        if shared is None:
            ctx.__exit__(None, None, None)
    # What a filter could not ask about it neither kept nor refused.
    decided = [index for index, column in enumerate(zip(*decisions, strict=True)) if not any(map(_unserved, column))]
    sample = [sample[index] for index in decided]
    decisions = [[column[index] for index in decided] for column in decisions]
    measured = [_measure(ref, module, sample, one) for (ref, module), one in zip(named, decisions, strict=True)]
    all_keep = [all(one.keep for one in column) for column in zip(*decisions, strict=True)]
    for one in measured:
        log.info("verifier %s: %s", one["name"], _told(one))
    return {
        "sample": dict(Counter(one.source for one in sample)),
        "filters": measured,
        "combined": keep_rates(sample, all_keep),
    }


def _unserved(decision: Decision) -> bool:
    return (decision.reason or "").startswith(ENGINE_ERROR)


def _verifying(filters: Iterable[PluginRef]) -> list[tuple[PluginRef, ModuleType]]:
    loaded = [(one, plugins.load("filter", one.name)) for one in filters]
    return [(one, module) for one, module in loaded if getattr(module, "VERIFIES", False)]


def draw_sample(run: Run, round: int, size: int) -> list[Labelled]:
    """`size` right answers, then as many wrong ones; the same for the same run and round."""
    ctx = FilterContext(run, round)
    generator = rng(run.config.seed, round, "verifiers")
    train = ctx.real("train")
    generator.shuffle(train)
    gold = (
        Labelled(row, row.completion, other, True, "gold")
        for row, other in _swapped(train, ctx.task)
        if _is_right(ctx.task, row, row.completion)
    )
    failures = _failures(run, round)
    generator.shuffle(failures)
    student = (
        Labelled(one.example, one.response, one.example.completion, False, "student")
        for one in failures
        if one.response.strip() and not one.truncated and not _is_right(ctx.task, one.example, one.response)
    )
    swapped = (Labelled(row, other, row.completion, False, "swapped") for row, other in _swapped(train, ctx.task))
    right = list(islice(gold, size))
    return [*right, *islice(chain(student, swapped), len(right))]


def _failures(run: Run, round: int) -> list[Failure]:
    path = run.round_dir(run.accepted_round(round)) / "failures.jsonl"
    return read_rows(path, Failure) if is_there(path) else []


def _swapped(rows: Sequence[Example], task: Task) -> Iterator[tuple[Example, str]]:
    """Each row with the completion of the next row, round about, wrong for it; rows without one are left out."""
    for place, row in enumerate(rows):
        others = (one.completion for one in chain(rows[place + 1 :], rows[:place]))
        wrong = next((text for text in others if not _is_right(task, row, text)), None)
        if wrong is not None:
            yield row, wrong


def _is_right(task: Task, example: Example, text: str) -> bool:
    return task.score(example, text).correct


def _candidates(sample: Sequence[Labelled], ctx: LabelledContext, with_votes: bool) -> list[Candidate]:
    """The sample as a recipe would have left it: the answer is what the completion says."""
    batch = [
        Candidate(
            id=f"r{ctx.round:03d}-{_name(number)}",
            round=ctx.round,
            recipe="labelled",
            seed_id=_name(number),
            input=one.example.input,
            messages=one.example.messages,
            completion=one.completion,
            rejected=one.other,
            answer=ctx.task.score(one.example, one.completion).parsed,
            slice=one.example.slice,
        )
        for number, one in enumerate(sample)
    ]
    return _voted(batch, ctx) if with_votes else batch


def _voted(batch: Sequence[Candidate], ctx: FilterContext) -> list[Candidate]:
    """The candidates with the teacher's votes; none where an engine could not serve the problem."""
    train = ctx.real("train")
    votes: dict[str, tuple[str | None, ...]] = {}

    def vote(one: Candidate, asker: Asker) -> Judging:
        answers = yield from answer(one, asker, ctx, train, role="teacher", count=NUM_VOTES)
        votes[one.id] = tuple(each.vote for each in answers)
        return KEEP

    ctx.converse("verifiers", batch, vote)
    return [one.model_copy(update={"votes": votes.get(one.id, ())}) for one in batch]


def _measure(
    ref: PluginRef, module: ModuleType, sample: Sequence[Labelled], decisions: Sequence[Decision]
) -> dict[str, Any]:
    refused = Counter(str(one.reason).partition(":")[0] for one in decisions if not one.keep)
    found: dict[str, Any] = {
        "name": ref.name,
        "settings": ref.settings,
        **keep_rates(sample, [one.keep for one in decisions]),
        "reasons": dict(refused.most_common()),
    }
    if getattr(module, "PROBABILITY", False):
        scored = [(one.score, case.right) for case, one in zip(sample, decisions, strict=True) if one.score is not None]
        calibration = calibrate([score for score, _ in scored], [right for _, right in scored])
        found["calibration"] = None if calibration is None else calibration._asdict()
    return found


def keep_rates(sample: Sequence[Labelled], kept: Sequence[bool]) -> dict[str, Any]:
    """`keep_right` and `keep_wrong`, and the latter by source: {rate, n, ci_low, ci_high} each, None without any."""
    marks: dict[str, list[bool]] = defaultdict(list)
    for one, keep in zip(sample, kept, strict=True):
        marks["right" if one.right else "wrong"].append(keep)
        if not one.right:
            marks[one.source].append(keep)
    return {
        "keep_right": _rate(marks["right"]),
        "keep_wrong": _rate(marks["wrong"]),
        "keep_wrong_by_source": {source: _rate(marks[source]) for source in sorted({*marks} - {"right", "wrong"})},
    }


def _rate(marks: Sequence[bool]) -> dict[str, float] | None:
    from scipy import stats

    if not marks:
        return None
    interval = stats.binomtest(sum(marks), len(marks)).proportion_ci(method="wilson")
    return {
        "rate": sum(marks) / len(marks),
        "n": len(marks),
        "ci_low": float(interval.low),
        "ci_high": float(interval.high),
    }


def _told(one: dict[str, Any]) -> str:
    parts = []
    for name in ("keep_right", "keep_wrong"):
        rate = one[name]
        if rate is not None:
            parts.append(f"{name} {rate['rate']:.2f} [{rate['ci_low']:.2f}, {rate['ci_high']:.2f}] (n={rate['n']})")
    return ", ".join(parts) or "nothing to measure it on"


def recipe_errors(
    candidates: Sequence[Candidate],
    rejected: Sequence[Rejection],
    filters: Sequence[PluginRef],
    measured: dict[str, Any],
    limit: float = ERROR_LIMIT,
) -> list[dict[str, Any]]:
    """For each recipe: how much of what it writes is wrong, how much of that is left, and whether it is flagged.

    Of the candidates that reached the first verifying filter, the share `refused` by one of these filters is
    e (1 - keep_wrong) + (1 - e) (1 - keep_right), so that the recipe's error is

        e = (refused - (1 - keep_right)) / (keep_right - keep_wrong)                  (Rogan and Gladen, 1978)

    cut to [0, 1], and what is left after the filters is wrong in

        residual = e keep_wrong / (e keep_wrong + (1 - e) keep_right).

    Flagged is a residual above `limit`, and filters that keep no more of the right than of the wrong: nothing can be
    told by them. Candidates whose answer is gold are left out, since the scorer checks them against it. The rates are
    those of the labelled sample; they hold for the recipe as far as its errors are like those of the sample.
    """
    names = {one.name for one, _ in _verifying(filters)}
    combined = measured["combined"]
    if combined is None or combined["keep_right"] is None or combined["keep_wrong"] is None:
        return []
    before = {one.name for one in filters[: next(n for n, one in enumerate(filters) if one.name in names)]}
    by = {one.candidate_id: one.filter for one in rejected}
    marks: dict[str, list[bool]] = defaultdict(list)
    for one in candidates:
        if not one.gold and by.get(one.id) not in before:
            marks[one.recipe].append(by.get(one.id) in names)
    keep_right, keep_wrong = combined["keep_right"]["rate"], combined["keep_wrong"]["rate"]
    return [_error(recipe, marks[recipe], keep_right, keep_wrong, limit) for recipe in sorted(marks)]


def _error(recipe: str, refused: Sequence[bool], keep_right: float, keep_wrong: float, limit: float) -> dict[str, Any]:
    share = sum(refused) / len(refused)
    found: dict[str, Any] = {"recipe": recipe, "n": len(refused), "refused": share, "limit": limit}
    if keep_right <= keep_wrong:
        told = f"its filters keep {keep_right:.2f} of what is right and {keep_wrong:.2f} of what is wrong"
        return {**found, "error": None, "residual": None, "flagged": True, "why": told}
    error = recipe_error(share, keep_right, keep_wrong)
    left = residual_error(error, keep_right, keep_wrong)
    why = f"of what the filters keep, {left:.0%} is wrong, above the limit of {limit:.0%}" if left > limit else None
    return {**found, "error": error, "residual": left, "flagged": left > limit, "why": why}


def recipe_error(refused: float, keep_right: float, keep_wrong: float) -> float:
    """The share of wrong answers that explains the share `refused`; see `recipe_errors`."""
    assert keep_right > keep_wrong, (keep_right, keep_wrong)
    return min(1.0, max(0.0, (refused - (1 - keep_right)) / (keep_right - keep_wrong)))


def residual_error(error: float, keep_right: float, keep_wrong: float) -> float:
    """The share of wrong answers among what is kept; see `recipe_errors`. 0 where nothing is kept."""
    kept = error * keep_wrong + (1 - error) * keep_right
    return error * keep_wrong / kept if kept else 0.0
