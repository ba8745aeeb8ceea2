"""Rows of earlier skills, trained on again so that a new one does not overwrite them (rehearsal).

A small share of old data holds skills that fine-tuning on new data alone loses (Robins 1995, Connection Science 7:123;
for instruction tuning 1% of it was enough, Scialom et al. 2022, arXiv:2205.12393).

A user's file may hold what this run holds out, the task's own published rows for example. Rows whose conversation is
nearly a held-out problem (`splits.near_duplicate`), or is cut from one conversation with it, are left out and counted;
a paraphrase passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from synthloop import problems
from synthloop.conversations import Unread
from synthloop.errors import UserError
from synthloop.records import Example, Row
from synthloop.similarity import NearDuplicates
from synthloop.splits import HELD_OUT
from synthloop.store import Run, read_rows, sha256
from train.rows import read_training_rows


class Replay(NamedTuple):
    """The rows of the file that may be drawn, how many are held out here, the file's hash, and what is not used."""

    rows: list[Row]
    held_out: int
    sha256: str
    unread: dict[str, dict[str, int]]


def read_replay(run: Run, path: Path, round: int) -> Replay:
    """The rows of `path`, in order, as rows of source 'replay'.

    Raises:
        UserError: no such file, a row that can't be read, no row that is not held out, or a file that is not the one
            an earlier round of this run drew from.
    """
    unread = Unread()
    rows = [replay_row(row) for row in read_training_rows(path, unread)]
    digest = sha256(path)
    refuse_changed(run, path, digest, round)
    held_out = [one for name in HELD_OUT for one in read_rows(run.split(name), Example)]
    free = not_held_out(rows, held_out, run.config.splits.near_duplicate)
    if not free:
        raise UserError(f"mix.replay: all {len(rows)} rows of {path} are held out in this run. Name other rows.")
    return Replay(free, len(rows) - len(free), digest, unread.facts)


def replay_row(row: Row) -> Row:
    """`row` under a name of its own. It belongs to no round of this run; its depth and weight stay."""
    return row.model_copy(update={"id": f"replay:{row.id}", "source": "replay", "round": 0})


def refuse_changed(run: Run, path: Path, digest: str, round: int) -> None:
    """Raise `UserError` where a round before `round` drew from a file of another hash."""
    for number in range(1, round):
        stage = run.stage(number, "mix")
        before = stage.record().get("replay_sha256", digest) if stage.is_complete else digest
        if before != digest:
            raise UserError(
                f"{path} changed since round {number} was mixed from it (mix.replay). Put it back, or use "
                f"--from {number}/mix to mix that round and all after it again."
            )


def not_held_out(rows: Sequence[Row], held_out: Sequence[Example], threshold: float) -> list[Row]:
    """The rows whose prompt is no near-duplicate of a held-out problem, raw or as the student sees it, and of no
    conversation that has a held-out row."""
    shared = problems.shared_system(rows) | problems.shared_system(held_out)
    as_seen = [one.model_copy(update={"input": one.messages[-1]["content"]}) for one in held_out]
    known = [*held_out, *as_seen]
    texts = sorted({problems.compared(one, shared) for one in known})
    index = NearDuplicates([*texts, *(problems.compared(row, shared) for row in rows)], threshold)
    for position in range(len(texts)):
        index.add(position)
    cut = problems.cut_from(
        [problems.beginnings(row, shared) for row in rows], [problems.beginnings(one, shared) for one in known]
    )
    return [
        row
        for place, (row, is_cut) in enumerate(zip(rows, cut, strict=True), len(texts))
        if not is_cut and not index.matches(place)
    ]
