"""`synthloop verify RUN`: is every file of a run what its stage recorded, and does all of it fit together?

data/, round-NNN/   missing, changed, recorded by nobody; made from inputs that are others now
journal.sqlite      sound, each reply as it was written, the replies behind every candidate still there
best_adapter/       the adapter of the best round
metrics.jsonl, report.json, report.html      what the rounds give
config.resolved.json, provenance.json, wandb.json, *_override.json      as they were written (their checksums)

Logs and W&B's own folder are read by nothing and not looked at. Nothing is changed, and no lock is taken.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from synthloop import card, integrity, page, report, tracking
from synthloop.config import SeedOverride, parse
from synthloop.errors import UserError
from synthloop.files import copy_folder, files_of, is_temporary, parse_json, redo, sha256
from synthloop.journal import Journal
from synthloop.mixing import MixOverride
from synthloop.records import Candidate
from synthloop.store import STAGES, Run, read_rows

SEALED = ("provenance.json", "wandb.json")
OVERRIDES: dict[str, type[BaseModel]] = {"mix_override.json": MixOverride, "seed_override.json": SeedOverride}
NOT_OF_A_STAGE = ("reviews.jsonl", *OVERRIDES)
"""Inputs of stages that people and the loop write."""
UNRECORDED = ("logs", "stages", "splits.json", *OVERRIDES)
"""What a round's folder and that of the data hold beside what was recorded of them."""


class Verdict(NamedTuple):
    """How many files of how many stages were looked at, and what is wrong, a sentence each."""

    files: int
    stages: int
    problems: list[str]


def verify(run: Run) -> Verdict:
    """Look at every file of `run`. What is derived from the rounds is compared only where the rounds are sound."""
    homes = [run.root / "data", *map(run.round_dir, run.rounds())]
    num_files = sum(len(_ledger(home)) for home in homes)
    num_stages = sum(run.stage(round, name).is_complete for round in run.rounds() for name in (*STAGES, "test"))
    problems = [problem for home in homes for problem in _recorded(home)]
    problems += [problem for name in SEALED for problem in _broken(run.root / name)]
    for path in [run.round_dir(round) / name for round in run.rounds() for name in OVERRIDES]:
        problems += _broken(path, OVERRIDES[path.name])
    if not problems:
        problems += _strangers(run.root / "data", "no split of the data") if (run.root / "data").exists() else []
        for round in run.rounds():
            problems += _inputs(run, round)
            problems += _strangers_of_round(run, round)
        problems += [*_journal(run), *_derived(run)]
    return Verdict(num_files, num_stages, list(dict.fromkeys(problems)))


def _ledger(home: Path) -> dict[str, integrity.Recorded]:
    try:
        return integrity.ledger(home)
    except UserError:  # told by `_recorded`
        return {}


def _recorded(home: Path) -> Iterator[str]:
    """The files that the records of `home` speak for, and the records themselves."""
    records = [home / "splits.json"] if home.name == "data" else sorted((home / "stages").glob("*.json"))
    broken = [problem for record in records for problem in _broken(record)]
    yield from broken
    for name in [] if broken else integrity.ledger(home):
        yield from integrity.problems(home / name)


def _broken(path: Path, model: type[BaseModel] | None = None) -> Iterator[str]:
    """Why the JSON file at `path`, where there is one, is not as it was written (or no `model`)."""
    if not path.exists():
        return
    try:
        value = parse_json(path)
        if model is not None:
            parse(model, value, str(path))
    except UserError as error:
        yield str(error)


def _inputs(run: Run, round: int) -> Iterator[str]:
    """Stages that were made from files which are others now. People may add to `reviews.jsonl` at any time."""
    for name in (*STAGES, "test"):
        stage = run.stage(round, name)
        for place, was in (stage.record().get("inputs", {}) if stage.is_complete else {}).items():
            path = run.root / place
            if path.is_file() and path.name not in NOT_OF_A_STAGE and not integrity.is_recorded(path):
                yield f"{path}: the record of the stage that wrote it is gone. {redo(round, name)}"
            if path == run.reviews_path or not path.exists() or integrity.digest(path) == was:
                continue
            if sha256(path) != was:  # what earlier versions recorded of a folder
                yield f"{path}: is not what stage {name} of round {round} was made from. {redo(round, name)}"


def _strangers_of_round(run: Run, round: int) -> Iterator[str]:
    """Files in the folder of a decided round that nobody recorded, and rounds that no decided one comes before."""
    home = run.round_dir(round)
    if round > 0 and not run.stage(round - 1, "decide").is_complete:
        yield f"{home}: round {round - 1}, which comes before it, was not decided. Move it elsewhere."
    elif run.stage(round, "decide").is_complete:
        yield from _strangers(home, f"no stage of round {round}")


def _strangers(home: Path, producer: str) -> Iterator[str]:
    """Files of `home` that its records do not speak for, where a stage would read them."""
    known = integrity.ledger(home)
    for file in files_of(home):
        name = file.relative_to(home)
        if name.as_posix() in known or name.parts[0] in UNRECORDED or is_temporary(file):
            continue
        if not name.parts[0].endswith(".partial"):
            yield f"{file}: {producer} recorded it. Move it elsewhere."


def _differing(one: Path, other: Path) -> list[Path]:
    """The files of the folder `one`, there or not, that are not those of the folder `other`."""
    found, wanted = (
        {file.relative_to(folder): integrity.digest(file) for file in files_of(folder)} for folder in (one, other)
    )
    return [one / name for name in sorted(found | wanted) if found.get(name) != wanted.get(name)]


def _asked(run: Run, round: int) -> list[str]:
    """The journal's keys of the replies behind the round's candidates."""
    path = run.round_dir(round) / "candidates.jsonl"
    candidates = read_rows(path, Candidate) if integrity.is_recorded(path) else []
    return list(dict.fromkeys(key for one in candidates for key in one.lineage.get("requests", [])))


def _journal(run: Run) -> Iterator[str]:
    if not run.journal_path.exists():
        if any(_asked(run, round) for round in run.rounds()):
            yield (
                f"{run.journal_path}: is missing, and with it the replies behind the candidates. Put it back from a "
                "copy; without, `trace` cannot show them."
            )
        return
    try:
        opened = Journal(run.journal_path, "verify")
    except UserError as error:
        yield str(error)
        return
    with opened as journal:
        problems = list(journal.problems())
        yield from problems
        for round in [] if problems else run.rounds():
            keys = _asked(run, round)
            if lost := journal.missing(keys):
                yield (
                    f"{run.journal_path}: {len(lost)} of {len(keys)} replies behind the candidates of round {round} "
                    f"are gone ({lost[0]}). Put it back from a copy; without, `trace` cannot show them."
                )


def _derived(run: Run) -> Iterator[str]:
    """The best adapter, and what is written from the rounds."""
    best = run.best_round()
    again = "The same `synthloop run` command writes it anew."
    adapter = run.adapter(best) if run.stage(best, "test").is_complete else None
    if adapter is not None:
        with tempfile.TemporaryDirectory() as scratch:
            copy_folder(adapter, Path(scratch) / "best", lambda folder: card.finish(folder, run, best))
            for file in _differing(run.root / "best_adapter", Path(scratch) / "best"):
                yield f"{file}: is not that of the best round, {adapter}. {again}"
    metrics = [json.dumps(tracking.round_metrics(run, one["round"])) for one in run.decided()]
    if tracking.read_metrics(run) != "".join(f"{line}\n" for line in metrics):
        yield f"{run.root / 'metrics.jsonl'}: is not what the rounds give. {again}"
    built, write = report.build(run), f"`synthloop report {run.root}` writes it anew."
    as_json = json.dumps(built, indent=2, ensure_ascii=False) + "\n"
    for path, wanted in ((run.root / "report.json", as_json), (run.root / "report.html", page.render(built))):
        if path.exists() and path.read_bytes() != wanted.encode():
            yield f"{path}: is not what the rounds give. {write}"
