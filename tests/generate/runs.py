"""Run directories for tests: real splits and the failures of round 0, as the loop leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthloop.config import Config, dump
from synthloop.records import Example, Failure
from synthloop.store import Run, write_json, write_rows
from tests.generate import rows

SIZES = {"train": 30, "probe": 12, "gate": 8, "test": 8}


def build_run(root: Path, model: str = "a", engine: str = "tests.generate.scripted", **changes: Any) -> Run:
    """A run whose round 0 failed half of the probe split."""
    settings: dict[str, Any] = {
        "name": "test",
        "student": {"engine": engine, "model": model},
        "task": {"name": "word_problems"},
        "roles": {"teacher": {"engine": engine, "model": model}},
        "generate": {
            "recipes": [{"name": "repair", "share": 2}, {"name": "variation"}, {"name": "explore"}],
            "num_seeds": 24,
        },
    }
    write_json(root / "config.resolved.json", dump(Config.model_validate(merge(settings, changes))))
    run = Run(root)
    splits = real_splits()
    for name, examples in splits.items():
        write_rows(run.split(name), examples)
    failures = [
        Failure(id=one.id, split="probe", example=one, response="#### 0", parsed="0", truncated=False)
        for one in splits["probe"][::2]
    ]
    write_rows(run.round_dir(0) / "failures.jsonl", failures)
    return run


def real_splits() -> dict[str, list[Example]]:
    splits, start = {}, 0
    for name, size in SIZES.items():
        splits[name] = [
            rows.example(number, slice=f"slice-{number % 3}", id=f"real-{name}-{number}")
            for number in range(start, start + size)
        ]
        start += size
    return splits


def merge(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged
