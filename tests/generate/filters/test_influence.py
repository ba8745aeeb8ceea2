"""Gradient similarity on the quickstart student."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from generate.curation import FilterContext
from generate.filters import influence
from generate.influence import PROJECTED, Gradients, Text
from synthloop.records import Failure
from synthloop.store import Run, write_rows
from tests.generate import rows
from tests.generate.runs import build_run

LORA = {"r": 4, "target_modules": "all-linear"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A student that failed additions."""
    run = build_run(tmp_path / "run", model="quickstart/student", train={"lora": LORA})
    failures = [
        Failure(id=one.id, split="probe", example=one, response="#### 0", parsed="0", truncated=False)
        for one in (rows.example(n) for n in range(20, 26))
    ]
    write_rows(run.round_dir(0) / "failures.jsonl", failures)
    return run


def test_a_sample_like_the_failures_comes_before_one_unlike_them(run: Run) -> None:
    alike = [rows.candidate(n, input=e.input, messages=e.messages, completion=e.completion)
             for n, e in enumerate(rows.example(n) for n in range(30, 33))]  # fmt: skip
    unlike = [rows.candidate(n, completion="no no no no no no") for n in range(10, 13)]
    batch = [*unlike, *alike]
    decisions = influence.check(influence.Config(keep_share=0.5), batch, FilterContext(run, 1))
    assert [one.keep for one in decisions] == [False] * 3 + [True] * 3
    scores = [one.score for one in decisions if one.score is not None]
    assert len(scores) == 6
    assert all(-1 <= score <= 1 for score in scores)
    assert (decisions[0].reason or "").startswith("low influence: ")
    assert decisions == influence.check(influence.Config(keep_share=0.5), batch, FilterContext(run, 1))
    strict = influence.check(influence.Config(keep_share=1, min_score=0.999), batch, FilterContext(run, 1))
    assert not any(one.keep for one in strict)


def test_without_failures_there_is_nothing_to_aim_at(run: Run) -> None:
    write_rows(run.round_dir(0) / "failures.jsonl", [])
    (decision,) = influence.check(influence.Config(), [rows.candidate()], FilterContext(run, 1))
    assert decision.keep


def test_the_sketch_keeps_the_angle_between_gradients(run: Run) -> None:
    """Against the cosine of the whole gradients."""
    import torch

    gradients = Gradients("quickstart/student", None, None, LORA, seed=1)
    texts = [Text(one.messages, one.completion) for one in (rows.example(n) for n in (3, 4, 90))]
    sketched = gradients.of(texts, 256)
    assert sketched.shape == (3, PROJECTED)
    whole = []
    for text in texts:
        gradients._one(text, 256)
        grads = [w.grad.flatten() for w in gradients._weights if w.grad is not None]
        whole.append(torch.nn.functional.normalize(torch.cat(grads), dim=0).numpy())
    exact = np.stack(whole) @ np.stack(whole).T
    assert np.abs(sketched @ sketched.T - exact).max() < 5 / PROJECTED**0.5
    assert exact[0, 1] > exact[0, 2]
    assert not gradients.of([Text(rows.example().messages, "long answer")], 3).any()
