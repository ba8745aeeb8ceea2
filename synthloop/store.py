"""The run directory: where everything of a run is kept, and what it means for a stage to be complete.

A stage writes into `round-NNN/<stage>.partial/`. When it is done its files are flushed to disk, moved into
`round-NNN/`, and its record `round-NNN/stages/<stage>.json` is written last, by a rename: the stage is complete if and
only if the record exists. A killed stage leaves its `.partial/` behind and continues from it (training resumes from its
checkpoints there; generation is answered by the journal). One writer per run holds `run.lock`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from synthloop import integrity, plugins
from synthloop.config import Config, RoleConfig, dump, parse
from synthloop.errors import UserError
from synthloop.files import (
    files_of,
    flush,
    flush_tree,
    is_temporary,
    make_folder,
    move_in_place,
    parse_json,
    sha256,
    write_json,
    write_rows,
)
from synthloop.folders import RUN_MARK, is_locked, lock
from synthloop.jsonl import read_jsonl
from synthloop.records import Record, Review
from synthloop.task import open_task

__all__ = [
    "SETTINGS",
    "STAGES",
    "Run",
    "Stage",
    "Writer",
    "read_json",
    "read_rows",
    "sha256",
    "stage_settings",
    "write_json",
    "write_rows",
]

R = TypeVar("R", bound=Record)

STAGES = ("seed", "generate", "curate", "trials", "search", "mix", "train", "eval", "decide")
"""In order. `trials` and `search` run where `mix.policy` is adaptive."""

SETTINGS: dict[str, tuple[str, ...]] = {
    "data": ("seed", "task", "splits"),
    "seed": ("seed", "task", "generate"),
    "generate": ("seed", "task", "generate", "roles"),
    "curate": ("seed", "task", "curate", "roles"),
    "trials": ("seed", "mix", "generate", "student", "train"),
    "search": ("seed", "task", "mix", "generate", "student", "eval"),
    "mix": ("seed", "mix", "student"),
    "train": ("seed", "student", "train"),
    "eval": ("seed", "task", "student", "eval", "collapse"),
    "test": ("seed", "task", "student", "eval"),
    "decide": ("decide",),
}
"""The config sections whose change invalidates a stage. Inputs carry the rest, by their hashes."""


def read_json(path: Path) -> Any:
    """The JSON value at `path`. Raises `UserError` where it is missing, broken, or not what its stage recorded."""
    integrity.check(path)
    return parse_json(path)


def read_rows(path: Path, record: type[R]) -> list[R]:
    """The rows of a JSONL file the run wrote.

    Raises:
        UserError: the file is not what its stage recorded, or a line does not fit (file and line are named).
    """
    integrity.check(path)
    rows = []
    for number, row in read_jsonl(path, max_bytes=None):
        rows.append(parse(record, row, f"{path}, line {number}"))
    return rows


def section_settings(config: Config, name: str) -> Any:
    """A config section as plain values, without the fields that are marked `plugins.Untracked`."""
    section, plain = getattr(config, name), dump(config)[name]
    if name == "task":
        return plugins.tracked(plugins.load("task", config.task.name).Config, plain)
    if name == "student":
        return _engine_settings(config.student, plain)
    if name == "roles":
        return {
            role: [_engine_settings(one, values) for one, values in zip(members, plain[role], strict=True)]
            for role, members in config.roles.items()
        }
    return plugins.tracked(type(section), plain) if isinstance(section, BaseModel) else plain


def _engine_settings(role: RoleConfig, plain: dict[str, Any]) -> dict[str, Any]:
    return plugins.tracked(plugins.load("engine", role.engine).Config, plain)


def stage_settings(config: Config, stage: str) -> dict[str, Any]:
    """The settings that matter to `stage`: what is marked as untracked left out, own prompt files by content."""
    settings = {section: section_settings(config, section) for section in SETTINGS[stage]}
    if stage in ("generate", "curate"):
        settings["files"] = {name: sha256(path) for name, path in _files(config, stage) if path.exists()}
    if stage in ("eval", "test", "search"):
        judge = open_task(config.task.name, config.task.settings).judge_role
        settings |= {"roles": {judge: section_settings(config, "roles").get(judge)}} if judge is not None else {}
    if stage == "eval" and config.collapse.controls is not None and config.collapse.controls.exists():
        settings["files"] = {"collapse.controls": sha256(config.collapse.controls)}
    return settings


def _files(config: Config, stage: str) -> Iterator[tuple[str, Path]]:
    """(where it is named, path) of what a person may edit: prompts, taxonomies, rubrics, documents."""
    if config.generate.prompts is not None:
        yield "prompts", config.generate.prompts
    kind: plugins.Kind = "recipe" if stage == "generate" else "filter"
    for ref in config.generate.recipes if stage == "generate" else config.curate.filters:
        settings = plugins.configure(kind, ref.name, ref.settings)
        for field in type(settings).model_fields:
            if isinstance(getattr(settings, field), Path):
                yield f"{ref.name}.{field}", getattr(settings, field)


class Writer(NamedTuple):
    """What a running stage writes to: files under `folder`, facts for its record into `notes`."""

    folder: Path
    notes: dict[str, Any]


class Stage(NamedTuple):
    """One stage of one round."""

    run: Run
    round: int
    name: str

    @property
    def folder(self) -> Path:
        return self.run.round_dir(self.round)

    @property
    def partial(self) -> Path:
        return self.folder / f"{self.name}.partial"

    @property
    def record_path(self) -> Path:
        return self.folder / "stages" / f"{self.name}.json"

    @property
    def is_complete(self) -> bool:
        return self.record_path.exists()

    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = read_json(self.record_path)
        return record

    def forget(self) -> None:
        """Make the stage undone: its record first, then its partial work. Its files stay until overwritten."""
        self.record_path.unlink(missing_ok=True)
        shutil.rmtree(self.partial, ignore_errors=True)

    @contextmanager
    def write(self, inputs: Sequence[Path]) -> Iterator[Writer]:
        """Run the stage's body; on a clean exit its files are moved in place and its record is written.

        A `.partial/` left by a killed process is kept when it was made from the same settings and inputs, else removed.
        Call it only when not `is_complete`.

        Raises:
            UserError: an input is not what the stage that made it recorded.
        """
        started = time.monotonic()
        settings = stage_settings(self.run.config, self.name)
        for path in inputs:
            integrity.check(path)
        hashes = {str(path.relative_to(self.run.root)): integrity.digest(path) for path in inputs}
        fingerprint = hashlib.sha256(json.dumps([settings, hashes], sort_keys=True).encode()).hexdigest()
        mark = self.partial / ".fingerprint"
        if not (mark.exists() and mark.read_text() == fingerprint):
            shutil.rmtree(self.partial, ignore_errors=True)
            make_folder(self.partial)
            mark.write_text(fingerprint)
        notes: dict[str, Any] = {}
        yield Writer(self.partial, notes)
        mark.unlink()
        outputs = _describe(self.partial)
        flush_tree(self.partial)
        for entry in sorted(self.partial.iterdir()):
            move_in_place(entry, self.folder / entry.name)
        self.partial.rmdir()
        flush(self.folder)
        write_json(
            self.record_path,
            {
                "stage": self.name,
                "round": self.round,
                "fingerprint": fingerprint,
                "settings": settings,
                "inputs": hashes,
                "outputs": outputs,
                "seconds": round(time.monotonic() - started, 3),
                **notes,
            },
            sealed=True,
        )


def _describe(folder: Path) -> dict[str, Any]:
    """Each file below `folder`, with its hash and size; what a killed process had not written whole is removed."""
    described = {}
    for file in files_of(folder):
        if is_temporary(file):
            file.unlink()
            continue
        facts: dict[str, Any] = {"sha256": sha256(file), "bytes": file.stat().st_size}
        if file.suffix == ".jsonl":
            with file.open("rb") as lines:
                facts["rows"] = sum(1 for _ in lines)
        described[file.relative_to(folder).as_posix()] = facts
    return described


class Run:
    """A run directory and its config."""

    def __init__(self, root: Path) -> None:
        """Raises `UserError` where there is no run in the folder `root`."""
        if not (root / RUN_MARK).is_file():
            found = "it holds no config.resolved.json" if root.is_dir() else "no such folder"
            raise UserError(f"{root} is not a run: {found}. `synthloop run CONFIG` makes one, in runs/<name>.")
        self.root = root
        self.config = parse(Config, read_json(root / "config.resolved.json"), str(root / "config.resolved.json"))

    def split(self, name: str) -> Path:
        """The real rows of a split: JSONL of `Example`."""
        return self.root / "data" / f"{name}.jsonl"

    @property
    def reviews_path(self) -> Path:
        """What people decided about samples: JSONL of `Review`, the last line of a sample counts."""
        return self.root / "reviews.jsonl"

    def reviews(self) -> dict[str, Review]:
        """Sample id -> the last decision a person took about it."""
        rows = read_rows(self.reviews_path, Review) if self.reviews_path.exists() else []
        return {one.id: one for one in rows}

    @property
    def started(self) -> datetime | None:
        """When the run began, by the local clock: what chat templates are told, to its end. None before it does."""
        path = self.root / "provenance.json"
        told = read_json(path).get("started") if path.exists() else None
        return None if told is None else datetime.fromisoformat(told)

    @property
    def journal_path(self) -> Path:
        return self.root / "journal.sqlite"

    def round_dir(self, round: int) -> Path:
        return self.root / f"round-{round:03d}"

    def stage(self, round: int, name: str) -> Stage:
        return Stage(self, round, name)

    def rounds(self) -> list[int]:
        """Rounds that have a folder, in order."""
        names = (re.fullmatch(r"round-(\d{3,})", path.name) for path in self.root.glob("round-*"))
        return sorted(int(name[1]) for name in names if name is not None)

    def decided(self) -> list[dict[str, Any]]:
        """The `round.json` of every decided round, in order (round 0, the untouched student, first)."""
        return [
            read_json(self.round_dir(n) / "round.json") for n in self.rounds() if self.stage(n, "decide").is_complete
        ]

    def accepted_round(self, before: int) -> int:
        """The last accepted round before round `before`; 0 is the untouched student."""
        return max((r["round"] for r in self.decided() if r["accepted"] and r["round"] < before), default=0)

    def best_round(self) -> int:
        """The best round so far, as the last decision names it; 0 is the untouched student."""
        decided = self.decided()
        return int(decided[-1]["best_round"]) if decided else 0

    def adapter(self, round: int) -> Path | None:
        """The LoRA adapter of a round; None for round 0. Raises `UserError` where it is not what `train` recorded."""
        if round == 0:
            return None
        adapter = self.round_dir(round) / "adapter"
        integrity.check(adapter)
        return adapter

    @property
    def failure_path(self) -> Path:
        """Which stage failed last and what it said; there until that stage is tried again."""
        return self.root / "failure.json"

    def is_locked(self) -> bool:
        """Whether a process holds the writer lock now."""
        return is_locked(self.root)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run's writer lock. Raises `UserError` where another process holds it."""
        with lock(self.root):
            yield
