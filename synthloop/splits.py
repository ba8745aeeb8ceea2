"""Real data is split once: rows that belong together grouped, then groups dealt by a hash, and the result recorded.

Near-duplicates belong together, and rows cut from one conversation. Rows are compared by their whole conversations
(`synthloop.problems`).

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
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from synthloop import plugins, problems, similarity
from synthloop.config import Config, Splits
from synthloop.errors import UserError
from synthloop.randomness import draw
from synthloop.records import Example
from synthloop.screen import warnings_told
from synthloop.store import read_json, sha256, stage_settings, write_json, write_rows
from synthloop.task import Task, open_task

log = logging.getLogger("synthloop.splits")

HELD_OUT = ("probe", "gate", "test")
PUBLISHED = ("train", "validation", "test")


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
    with warnings_told() as told:
        splits, notes = split(task, config.splits, config.seed)
    for name, rows in splits.items():
        write_rows(root / "data" / f"{name}.jsonl", rows)
    record = {
        "settings": stage_settings(config, "data"),
        "rows": {name: len(rows) for name, rows in splits.items()},
        "sha256": {name: sha256(root / "data" / f"{name}.jsonl") for name in splits},
        "warnings": list(dict.fromkeys(told)),
        **notes,
    }
    write_json(record_path, record, sealed=True)
    return record


def load(task: Task) -> dict[str, list[Example]]:
    """Every split as the task publishes it."""
    return {name: list(task.load(name)) for name in PUBLISHED}


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
    shared = problems.shared_system([row for name in PUBLISHED for row in unique[name]])
    _refuse_overlap(unique, shared, cfg, notes)
    groups = _group(unique, shared, cfg.near_duplicate, notes)
    source = "validation" if unique["validation"] else "train"
    asked = {"probe": cfg.probe, "gate": cfg.gate}
    if not unique["test"]:
        asked["test"] = cfg.test or 0.15
    splits, rest = deal(unique[source], groups, asked, seed)
    if large := _too_large(unique[source], groups, asked):
        log.warning("%s, more than a split should hold; they lie in one split all the same", large)
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
            remedy = (
                f"{large}: raise splits.near_duplicate, or leave rows of it out" if large else f"Change splits.{name}"
            )
            raise UserError(f"The split '{name}' is empty (published rows: {_sizes(published)}). {remedy}.")
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
        wanted = _number(size, len(rows))
        taken: list[Example] = []
        while queue and len(taken) < wanted:
            taken += queue.pop(0)
        splits[name] = sorted(taken, key=lambda row: position[row.id])
    rest = [row for group in queue for row in group]
    return splits, sorted(rest, key=lambda row: position[row.id])


def _rank(seed: int, group: int, row_id: str) -> tuple[str, str]:
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest(), row_id


def _number(size: float, num_rows: int) -> int:
    return round(size * num_rows) if size < 1 else int(size)


def _take(rows: list[Example], size: float | None, seed: int) -> list[Example]:
    return rows if size is None else draw(rows, _number(size, len(rows)), seed)


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


def _refuse_overlap(
    splits: dict[str, list[Example]], shared: frozenset[str], cfg: Splits, notes: dict[str, Any]
) -> None:
    """Refuse, or drop from train (then from validation), what does not leave a more held-out split held out."""
    dropped: dict[str, int] = {}
    for later, earlier in (("test", "validation"), ("test", "train"), ("validation", "train")):
        found = _not_apart(splits[earlier], splits[later], shared)
        size = len(splits[earlier])
        told = ", ".join(
            f"{len(rows)} of the {size} rows of '{earlier}' {what} '{later}'" for what, rows in found.items()
        )
        if found and cfg.on_overlap == "error":
            example = problems.compared(next(iter(found.values()))[0])
            raise UserError(
                f"{told}, for example {example[:80]!r}. Held-out data must stay held out: remove them, or set "
                f"splits.on_overlap=drop to leave them out of '{earlier}'."
            )
        if found:
            ids = {row.id for rows in found.values() for row in rows}
            splits[earlier] = [row for row in splits[earlier] if row.id not in ids]
            log.warning("dropped: %s", told)
        dropped |= {
            f"{earlier} rows that {what.removeprefix('also ')} {later}": len(rows) for what, rows in found.items()
        }
    notes["dropped_overlap"] = dropped


def _not_apart(rows: list[Example], held: list[Example], shared: frozenset[str]) -> dict[str, list[Example]]:
    """How rows are not apart from those `held` out -> the rows: they have the same problem, or conversation."""
    begins, others = ([problems.beginnings(row, shared) for row in many] for many in (rows, held))
    whole = {one[-1] for one in others}
    chats = similarity.components(len(rows) + len(held), problems.overlaps([*rows, *held]))
    held_chats = set(chats[len(rows) :])
    same, cut = [], []
    for row, one, is_cut, its in zip(rows, begins, problems.cut_from(begins, others), chats, strict=False):
        if one[-1] in whole:
            same.append(row)
        elif is_cut or its in held_chats:
            cut.append(row)
    found = {"also stand in": same, "are cut from conversations in": cut}
    return {how: many for how, many in found.items() if many}


def _group(
    splits: dict[str, list[Example]], shared: frozenset[str], threshold: float, notes: dict[str, Any]
) -> dict[str, int]:
    """Row id -> group, over all published rows, of near-duplicates and of rows cut from one conversation.

    Both are counted, and so are groups that cross published splits.
    """
    rows = [row for name in PUBLISHED for row in splits[name]]
    alike = similarity.links([problems.compared(row, shared) for row in rows], threshold)
    notes["near_duplicate_rows"] = len(rows) - len(set(similarity.components(len(rows), alike)))
    cut = problems.continuations([problems.beginnings(row, shared) for row in rows]) + problems.overlaps(rows)
    several = [size for size in Counter(similarity.components(len(rows), cut)).values() if size > 1]
    notes["conversations_of_several_rows"] = {"conversations": len(several), "rows": sum(several)}
    indices = similarity.components(len(rows), [*alike, *cut])
    groups = {row.id: index for row, index in zip(rows, indices, strict=True)}
    crossing = _groups_of(splits["train"], groups) & _groups_of([*splits["validation"], *splits["test"]], groups)
    notes["near_duplicate_groups_across_published_splits"] = len(crossing)
    if crossing:
        log.warning("%d groups of near-duplicates span the published train and held-out splits", len(crossing))
    return groups


def _groups_of(rows: Iterable[Example], groups: dict[str, int]) -> set[int]:
    return {groups[row.id] for row in rows}


def _too_large(rows: Sequence[Example], groups: dict[str, int], asked: dict[str, float]) -> str | None:
    """What to say of the largest group of `rows`, where it is larger than a split that is asked of them."""
    if not rows:
        return None
    ((group, size),) = Counter(groups[row.id] for row in rows).most_common(1)
    if size == 1 or size <= min(_number(one, len(rows)) for one in asked.values()):
        return None
    first = next(row for row in rows if groups[row.id] == group)
    words = " ".join(problems.compared(first).split()[:12])
    return f"{size} rows are one near-duplicate group or conversation ({words!r} ...)"
