"""Near embeddings refused: by known points, and through the quickstart student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generate.curation import FilterContext
from generate.filters import semantic_dedup
from generate.filters.semantic_dedup import Config, centred, check, repeats
from synthloop.records import Message
from synthloop.store import write_json, write_rows
from tests.generate import rows
from tests.generate.runs import build_run


def at(*degrees: float) -> Any:
    radians = np.deg2rad(np.array(degrees, dtype=np.float32))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_nearest_among_known_and_kept_ones_before() -> None:
    # A cosine of 0.9 is 25.8 degrees.
    found = repeats(at(0, 90), at(20, 46, 50, 65, 135, 110, 200), 0.9)
    assert [one[2] for one in found] == [False, True, False, False, True, False, True]
    # 65 is nearest to 50, which was refused; of the others 46 is.
    assert [one[0] for one in found] == [0, 1, 3, 3, 1, 1, 6]
    assert found[0][1] == pytest.approx(np.cos(np.deg2rad(20)), abs=1e-6)


def test_nothing_known_and_nothing_before() -> None:
    empty = np.zeros((0, 2), dtype=np.float32)
    assert repeats(empty, at(10, 10), 1.0)[0] == (-1, -1.0, True)
    assert repeats(empty, at(10, 10), 1.0)[1][2] is False
    assert list(repeats(at(1), empty, 0.9)) == []


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    whole = repeats(points[:10], points[10:], 0.8)
    monkeypatch.setattr(semantic_dedup, "_BLOCK", 7)
    parts = repeats(points[:10], points[10:], 0.8)
    assert [(one[0], one[2]) for one in whole] == [(one[0], one[2]) for one in parts]
    assert 0 < sum(one[2] for one in whole) < 50


@given(st.lists(st.floats(0, 360), max_size=30), st.floats(0.5, 0.99))
def test_what_is_kept_lies_apart_and_what_is_refused_does_not(angles: list[float], threshold: float) -> None:
    points = at(*angles) if angles else np.zeros((0, 2), dtype=np.float32)
    found = repeats(at(0), points, threshold)
    kept = np.concatenate([at(0), points[[one[2] for one in found]]]) if angles else at(0)
    cosines = kept @ kept.T
    np.fill_diagonal(cosines, -1)
    assert cosines.max() < threshold
    for point, (_, cosine, is_new) in zip(points, found, strict=True):
        assert is_new or (kept @ point).max() >= threshold - 1e-5
        assert is_new == (cosine < threshold - 1e-6)


def test_centring_opens_the_cone() -> None:
    points = at(10, 12, 14, 16)
    assert (points @ points.T).min() > 0.99
    moved = centred(points, 4)
    assert (moved @ moved.T).min() < -0.99
    assert not centred(at(10, 10), 2).any()


def fake_embed(texts: Sequence[str], model: str, *, revision: str | None = None) -> Any:
    """The number that the text holds, as an angle."""
    assert model == "a"
    return at(*(float("".join(filter(str.isdigit, text)) or 0) for text in texts))


def test_real_rows_earlier_rounds_and_the_round_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic_dedup, "embed", fake_embed)
    monkeypatch.setattr(semantic_dedup, "centred", lambda points, num_real: points)
    run = build_run(tmp_path / "run")
    for split in ("train", "probe", "gate", "test"):
        write_rows(run.split(split), [rows.example(0, id=f"real-{split}", input="0")] if split == "test" else [])
    write_rows(run.round_dir(1) / "curated.jsonl", [rows.candidate(0, input="90")])
    write_json(run.stage(1, "curate").record_path, {})
    batch = [rows.candidate(n, input=text) for n, text in enumerate(["5", "95", "180", "185", "270"])]
    decisions = check(Config(), batch, FilterContext(run, 2))
    assert [one.keep for one in decisions] == [False, False, True, False, True]
    assert [one.reason for one in decisions if one.reason] == [
        "like real: cosine 0.996 with the real test example real-test",
        "like synthetic: cosine 0.996 with r001-repair-00000 of round 1",
        "like synthetic: cosine 0.996 with r001-repair-00002 of this round",
    ]
    assert decisions[2].score == pytest.approx(0, abs=1e-6)


def test_chats_are_embedded_with_all_their_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic_dedup, "embed", fake_embed)
    monkeypatch.setattr(semantic_dedup, "centred", lambda points, num_real: points)
    run = build_run(tmp_path / "run")

    def chat(make: Any, degrees: int) -> Any:
        texts = [f"Turn by {degrees}.", "Done.", "Go on."]
        turns = [Message(role=("user", "assistant")[n % 2], content=text) for n, text in enumerate(texts)]
        return make(degrees, input="Go on.", messages=tuple(turns))

    for split in ("train", "probe", "gate", "test"):
        write_rows(run.split(split), [chat(rows.example, 10)])
    decisions = check(Config(), [chat(rows.candidate, degrees) for degrees in (10, 90, 180, 95)], FilterContext(run, 1))
    assert [one.keep for one in decisions] == [False, True, True, False]


def test_a_reworded_problem_is_found_through_the_quickstart_student(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", model="quickstart/student")
    # The real rows of `build_run` are one template, and their mean with it.
    problems = ["A bus has 40 seats and 12 are free. How many are taken?", "Add 3 and 9.", "What is half of 18?"]
    write_rows(run.split("train"), [rows.example(n, input=text) for n, text in enumerate(problems)])
    for split in ("probe", "gate", "test"):
        write_rows(
            run.split(split), [rows.example(3, id=split, input="Ann reads 5 books a week for 4 weeks. How many?")]
        )
    ctx = FilterContext(run, 1)
    texts = [
        "A bus has 40 seats and 12 are empty. How many are taken?",
        "A shop sells 12 pens a day. How many pens does it sell in 5 days?",
        "A shop sells 12 pens each day. How many pens does it sell in 5 days?",
    ]
    decisions = check(Config(), [rows.candidate(n, input=text) for n, text in enumerate(texts)], ctx)
    assert [one.keep for one in decisions] == [False, True, False]
    assert [(one.reason or "").partition(":")[0] for one in decisions] == ["like real", "", "like synthetic"]
