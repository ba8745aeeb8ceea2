"""Real data is split once: near-duplicates grouped, then groups dealt by a hash, and the result recorded.

| split | from                                                  | read by                     |
|-------|-------------------------------------------------------|-----------------------------|
| train | what the others leave of the published 'train'        | mix, seeds                  |
| probe | the published 'validation', else 'train'              | eval, seeds                 |
| gate  | the published 'validation', else 'train'              | eval (every decision)       |
| test  | the published 'test', else the same pool as probe     | eval, at the two ends only  |
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synthloop import plugins, similarity
from synthloop.config import Config, Splits
from synthloop.errors import UserError
from synthloop.records import Example
from synthloop.store import read_json, sha256, stage_settings, write_json, write_rows
from synthloop.task import Task, open_task

log = logging.getLogger("synthloop.splits")

HELD_OUT = ("probe", "gate", "test")


def prepare(config: Config, root: Path) -> dict[str, Any]:
    """Write `data/<split>.jsonl` (rows: `Example`) and, last, `data/splits.json`; nothing is done where it exists.

    Raises:
        UserError: an empty split, or held-out rows that also stand in train (`splits.on_overlap: error`).
    """
    record_path = root / "data" / "splits.json"
    if record_path.exists():
        record: dict[str, Any] = read_json(record_path)
        return record
    task = open_task(config.task.name, config.task.settings)
    splits, notes = split(task, config.splits, config.seed)
    for name, rows in splits.items():
        write_rows(root / "data" / f"{name}.jsonl", rows)
    record = {
        "settings": stage_settings(config, "data"),
        "rows": {name: len(rows) for name, rows in splits.items()},
        "sha256": {name: sha256(root / "data" / f"{name}.jsonl") for name in splits},
        **notes,
    }
    write_json(record_path, record, sealed=True)
    return record


def load(task: Task) -> dict[str, list[Example]]:
    """Every split as the task publishes it."""
    return {name: list(task.load(name)) for name in ("train", "validation", "test")}


def content(published: dict[str, list[Example]]) -> dict[str, str]:
    """Split -> the hash of what its rows say, in their order: not of where they stand, nor of how they are shown."""
    hashes = {}
    for name, rows in published.items():
        digest = hashlib.sha256()
        for row in rows:
            digest.update(json.dumps([row.id, row.answer, row.slice, row.meta], sort_keys=True).encode())
        hashes[name] = digest.hexdigest()
    return hashes


def refuse_other_data(config: Config, before: Config, root: Path) -> None:
    """Refuse a config whose task gives other rows than the run at `root`, of the config `before`, was split from.

    A hub data set is asked for again only where its settings are others.

    Raises:
        UserError: naming the splits that differ and the settings that say where they are.
    """
    task = open_task(config.task.name, config.task.settings)
    if task.hub is not None and config.task == before.task:
        return
    then, now = read_json(root / "data" / "splits.json")["published"], content(load(task))
    changed = [name for name in now if now[name] != then[name]]
    if changed:
        places = sorted(config.task.settings.keys() - plugins.tracked(type(task.config), config.task.settings).keys())
        told = ", ".join(f"task.{name}={config.task.settings[name]}" for name in places)
        raise UserError(
            f"{root}: the real data changed since the run split it: other rows in {', '.join(changed)}"
            f"{f' ({told})' if told else ''}. Put the former rows back, or use "
            "--run-dir DIR (or name=NAME) for a new run."
        )


def split(task: Task, cfg: Splits, seed: int) -> tuple[dict[str, list[Example]], dict[str, Any]]:
    """The four splits and what is worth recording about them (duplicates, near-duplicates, unused rows)."""
    return split_rows(load(task), cfg, seed)


def split_rows(
    published: dict[str, list[Example]], cfg: Splits, seed: int
) -> tuple[dict[str, list[Example]], dict[str, Any]]:
    """As `split`, of rows that are read already. Raises `UserError`: an empty split, or held-out rows in train."""
    unique, notes = _distinct(published)
    notes["published"] = content(published)
    _refuse_overlap(unique, cfg, notes)
    groups = _group(unique, cfg.near_duplicate, notes)
    source = "validation" if unique["validation"] else "train"
    asked = {"probe": cfg.probe, "gate": cfg.gate}
    if not unique["test"]:
        asked["test"] = cfg.test or 0.15
    splits, rest = deal(unique[source], groups, asked, seed)
    if source == "train":
        splits["train"] = rest
    else:
        splits["train"] = unique["train"]
        notes["unused_validation_rows"] = len(rest)
    if unique["test"]:
        splits["test"] = _take(unique["test"], cfg.test, seed)
    splits["train"] = _take(splits["train"], cfg.train, seed)
    for name in ("train", *HELD_OUT):
        if not splits[name]:
            raise UserError(f"The split '{name}' is empty (published rows: {_sizes(published)}). Change splits.{name}.")
    return splits, notes


def deal(
    rows: list[Example], groups: dict[str, int], asked: dict[str, float], seed: int
) -> tuple[dict[str, list[Example]], list[Example]]:
    """Deal whole groups, in the order of a seeded hash, until each asked split has its rows; and what is left.

    A size below 1 is a fraction of `rows`, else a count. Rows keep their published order within a split.
    """
    order: dict[int, list[Example]] = {}
    for row in sorted(rows, key=lambda row: _rank(seed, groups[row.id], row.id)):
        order.setdefault(groups[row.id], []).append(row)
    queue = list(order.values())
    position = {row.id: index for index, row in enumerate(rows)}
    splits: dict[str, list[Example]] = {}
    for name, size in asked.items():
        wanted = round(size * len(rows)) if size < 1 else int(size)
        taken: list[Example] = []
        while queue and len(taken) < wanted:
            taken += queue.pop(0)
        splits[name] = sorted(taken, key=lambda row: position[row.id])
    rest = [row for group in queue for row in group]
    return splits, sorted(rest, key=lambda row: position[row.id])


def _rank(seed: int, group: int, row_id: str) -> tuple[str, str]:
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest(), row_id


def _take(rows: list[Example], size: float | None, seed: int) -> list[Example]:
    """The whole of `rows`, or `size` of them drawn by a seeded hash, in their own order."""
    if size is None:
        return rows
    wanted = round(size * len(rows)) if size < 1 else int(size)
    ranked = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}:{row.id}".encode()).hexdigest())
    chosen = {row.id for row in ranked[:wanted]}
    return [row for row in rows if row.id in chosen]


def _sizes(published: dict[str, list[Example]]) -> str:
    return ", ".join(f"{name} {len(rows)}" for name, rows in published.items())


def _distinct(published: dict[str, list[Example]]) -> tuple[dict[str, list[Example]], dict[str, Any]]:
    """Each split with repeated rows (same input and completion) once, and how many were repeats."""
    unique = {name: list({row.id: row for row in rows}.values()) for name, rows in published.items()}
    repeats = {
        name: len(published[name]) - len(rows) for name, rows in unique.items() if len(published[name]) > len(rows)
    }
    if repeats:
        log.warning("repeated rows left out of the splits: %s", repeats)
    return unique, {"repeated_rows": repeats}


def _refuse_overlap(splits: dict[str, list[Example]], cfg: Splits, notes: dict[str, Any]) -> None:
    """Refuse, or drop from train (then from validation), rows whose input also stands in a more held-out split."""
    dropped: dict[str, int] = {}
    for later, earlier in (("test", "validation"), ("test", "train"), ("validation", "train")):
        held_out = {similarity.normalise(row.input) for row in splits[later]}
        shared = [row for row in splits[earlier] if similarity.normalise(row.input) in held_out]
        if shared and cfg.on_overlap == "error":
            raise UserError(
                f"{len(shared)} of the {len(splits[earlier])} rows of '{earlier}' also stand in '{later}', for example "
                f"{shared[0].input[:80]!r}. Held-out data must stay held out: remove them, or set "
                f"splits.on_overlap=drop to leave them out of '{earlier}'."
            )
        if shared:
            ids = {row.id for row in shared}
            splits[earlier] = [row for row in splits[earlier] if row.id not in ids]
            dropped[f"{earlier} rows that stand in {later}"] = len(shared)
            log.warning("dropped %d rows of '%s' that also stand in '%s'", len(shared), earlier, later)
    notes["dropped_overlap"] = dropped


def _group(splits: dict[str, list[Example]], threshold: float, notes: dict[str, Any]) -> dict[str, int]:
    """Row id -> near-duplicate group, over all published rows; groups that cross published splits are counted."""
    rows = [row for name in ("train", "validation", "test") for row in splits[name]]
    indices = similarity.groups([row.input for row in rows], threshold)
    groups = {row.id: index for row, index in zip(rows, indices, strict=True)}
    notes["near_duplicate_rows"] = len(rows) - len(set(indices))
    crossing = _groups_of(splits["train"], groups) & _groups_of([*splits["validation"], *splits["test"]], groups)
    notes["near_duplicate_groups_across_published_splits"] = len(crossing)
    if crossing:
        log.warning("%d groups of near-duplicates span the published train and held-out splits", len(crossing))
    return groups


def _groups_of(rows: Iterable[Example], groups: dict[str, int]) -> set[int]:
    return {groups[row.id] for row in rows}
