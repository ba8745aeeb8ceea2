"""Each filter on candidates whose verdict is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from generate.curate import count, curate, curate_stage
from generate.curation import FilterContext
from generate.filters import dedup, format, novelty, verify
from synthloop.config import PluginRef
from synthloop.records import Candidate, Rejection
from synthloop.store import Run, read_json, read_rows, write_json, write_rows
from tests.generate import rows
from tests.generate.runs import build_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return build_run(tmp_path / "run")


@pytest.fixture
def ctx(run: Run) -> FilterContext:
    return FilterContext(run, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"input": " "}, "empty"),
        ({"completion": ""}, "empty"),
        ({"truncated": True}, "truncated"),
        ({"input": "word " * 2001}, "length"),
        ({"completion": "word " * 4001 + "#### 5"}, "length"),
        ({"input": "Here is a new problem: how many?"}, "marker"),
        ({"completion": "<|im_start|> #### 5"}, "marker"),
        ({"completion": "Mia owns 0 kites, twice as many as her brother flies. How many has he? #### 5"}, "echo"),
        ({"completion": "I cannot tell."}, "no answer"),
    ],
)
def test_format(ctx: FilterContext, changes: dict[str, Any], reason: str | None) -> None:
    (decision,) = format.check(format.Config(), [rows.candidate(**changes)], ctx)
    assert (decision.reason or "").partition(":")[0] == (reason or "")
    assert decision.keep == (reason is None)


@pytest.mark.parametrize(
    ("changes", "reason", "score"),
    [
        ({}, None, 0.75),
        ({"votes": ("5", "5", "4", "4")}, "disagreement", 0.5),
        ({"answer": "5.0"}, None, 0.75),  # votes are for the same number
        ({"votes": ("5", None, None, None)}, "too few votes", 0.25),
        ({"votes": ()}, "too few votes", 0.0),
        ({"answer": None}, "no answer", None),
        ({"completion": "#### 4"}, "wrong", 0.0),
        ({"gold": True, "votes": ()}, None, None),
        ({"gold": True, "completion": "#### 4"}, "wrong", 0.0),
    ],
)
def test_verify(ctx: FilterContext, changes: dict[str, Any], reason: str | None, score: float | None) -> None:
    (decision,) = verify.check(verify.Config(), [rows.candidate(**changes)], ctx)
    assert (decision.reason or "").partition(":")[0] == (reason or "")
    assert decision.score == score


def keep_earlier(run: Run, round: int, *kept: Candidate) -> None:
    write_rows(run.round_dir(round) / "curated.jsonl", kept)
    write_json(run.stage(round, "curate").record_path, {})


def test_novelty_looks_at_real_data_all_earlier_rounds_and_the_round_itself(run: Run) -> None:
    keep_earlier(run, 1, rows.candidate(0, input="a kite that was kept in round one flies over the wide green hill"))
    keep_earlier(run, 2, rows.candidate(0, input="a boat that was kept in round two sails across the deep blue sea"))
    assert "Tom has 50 apples" in run.split("test").read_text()
    batch = [
        rows.candidate(1, input="A boat that was kept in round two sails across the deep, blue sea!"),
        rows.candidate(2, input="a kite that was kept in round one flies over the wide green hill today"),
        rows.candidate(3, input="Tom has 50 apples and buys 4 more. How many apples does he have now?"),
        rows.candidate(4, input="some entirely new text about a train and the people who wait for it in the rain"),
        rows.candidate(5, input="Some entirely new text about a train and the people who wait for it in the rain."),
        rows.candidate(6, input="go V;PST"),
        rows.candidate(7, input="go V;PRS"),
        rows.candidate(8, input="go V PST"),
    ]
    decisions = novelty.check(novelty.Config(), batch, FilterContext(run, 3))
    assert [one.keep for one in decisions] == [False, False, False, True, False, True, True, False]
    assert [(one.reason or "").partition(":")[0] for one in decisions][:5] == [
        "like synthetic", "like synthetic", "like real", "", "like synthetic",
    ]  # fmt: skip
    assert decisions[0].score == 1.0
    assert "real-test-50" in str(decisions[2].reason)
    # A later round is not looked at.
    assert novelty.check(novelty.Config(), batch[:1], FilterContext(run, 2))[0].keep


def test_a_gold_sample_may_repeat_a_real_problem_but_not_its_solution(run: Run) -> None:
    real = rows.example(3)  # a train row
    keep_earlier(run, 1, rows.candidate(1, input=real.input, completion="4+3=7 #### 7", gold=True))
    completions = ["3+4=7\n#### 7", "4 + 3 = 7 #### 7", "Add them: 7. #### 7", "Add them: 7. #### 7"]
    batch = [rows.candidate(n, input=real.input, completion=one, gold=True) for n, one in enumerate(completions)]
    assert [one.keep for one in novelty.check(novelty.Config(), batch, FilterContext(run, 2))] == [
        False,
        False,
        True,
        False,
    ]
    assert [one.keep for one in dedup.check(dedup.Config(), batch, FilterContext(run, 2))] == [True, False, True, False]
    other = rows.candidate(9, completion=completions[0], gold=True)
    assert novelty.check(novelty.Config(), [other], FilterContext(run, 2))[0].keep, "another problem, same answer"


def test_dedup_looks_at_all_earlier_rounds_and_the_round_itself_but_not_at_real_data(run: Run) -> None:
    keep_earlier(run, 1, rows.candidate(7, input="a kite that was kept in round one flies over the wide green hill"))
    batch = [
        rows.candidate(1, input="A kite that was kept in round one flies over the wide, green hill today!"),
        rows.candidate(2, input="Tom has 50 apples and buys 4 more. How many apples does he have now?"),
        rows.candidate(3, input="Tom has 50 apples and buys 4 more. How many apples does he have by now?"),
        rows.candidate(4, input="go V;PST"),
        rows.candidate(5, input="go V;PRS"),
    ]
    decisions = dedup.check(dedup.Config(threshold=0.7), batch, FilterContext(run, 2))
    assert [one.keep for one in decisions] == [False, True, False, True, True]
    assert decisions[0].reason == "like synthetic: Jaccard 0.92 with r001-repair-00007 of round 1"
    assert decisions[2].reason == "like synthetic: Jaccard 0.80 with r001-repair-00002 of this round"


def test_a_filter_sees_only_what_the_one_before_kept(ctx: FilterContext) -> None:
    batch = [rows.candidate(1), rows.candidate(2, completion=""), rows.candidate(3, votes=("5", "4"))]
    kept, rejected = curate(batch, [PluginRef(name="format"), PluginRef(name="verify")], ctx)
    assert [one.id for one in kept] == [batch[0].id]
    assert [(one.filter, one.candidate) for one in rejected] == [("format", batch[1]), ("verify", batch[2])]


def test_the_funnel_adds_up() -> None:
    batch = [rows.candidate(n, slice=f"s{n % 2}") for n in range(4)]
    refused = [
        Rejection(filter="recipe", reason="no solution", candidate_id="x", seed_id="x", recipe="repair"),
        Rejection(
            filter="format", reason="length: 9", candidate_id=batch[3].id, seed_id="", recipe="", candidate=batch[3]
        ),
    ]
    funnel = count(batch, batch[:3], refused)
    assert (funnel["conversations"], funnel["candidates"], funnel["kept"]) == (5, 4, 3)
    assert funnel["rejected"] == {"recipe": 1, "format": 1}
    assert funnel["by_slice"]["s1"] == {"candidates": 2, "kept": 1}
    assert {"filter": "format", "kind": "length", "count": 1} in funnel["reasons"]
    assert funnel["warning"] is None
    assert "no sample of this round was kept" in count(batch, [], refused)["warning"]


def test_the_stage_writes_its_files_and_is_not_run_twice(run: Run) -> None:
    folder = run.round_dir(1)
    write_rows(folder / "seeds.jsonl", [rows.seed()])
    write_rows(folder / "candidates.jsonl", [rows.candidate(1), rows.candidate(2, completion="")])
    write_rows(folder / "recipe_rejected.jsonl", [])
    curate_stage(run, 1)
    assert [one.id for one in read_rows(folder / "curated.jsonl", Candidate)] == [rows.candidate(1).id]
    assert [one.filter for one in read_rows(folder / "rejected.jsonl", Rejection)] == ["format"]
    assert read_json(folder / "funnel.json")["kept"] == 1
    (folder / "candidates.jsonl").unlink()
    curate_stage(run, 1)
