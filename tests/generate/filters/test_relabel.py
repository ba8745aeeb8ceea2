"""Votes that replace an answer, and those that do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from generate.curate import curate
from generate.filters import relabel
from synthloop.config import PluginRef
from synthloop.records import Candidate, Decision, Request
from tests.generate import rows
from tests.generate.filters import ruled


def saying(*answers: str) -> Callable[[str, Request], str]:
    """The k-th sample gives the k-th answer."""
    return lambda model, request: answers[request.sample_index]


def relabelled(tmp_path: Path, one: Candidate, *answers: str, **settings: Any) -> Decision:
    ctx = ruled.context(tmp_path, reply=saying(*answers))
    (decision,) = relabel.check(relabel.Config(num_answers=len(answers), **settings), [one], ctx)
    return decision


def test_a_clear_majority_replaces_answer_and_completion(tmp_path: Path) -> None:
    decision = relabelled(tmp_path, rows.candidate(), "#### 7", "first #### 6", "then #### 6", "#### 6")
    assert decision.score == 0.75
    assert decision.changes == {"answer": "6", "completion": "first #### 6", "votes": ("7", "6", "6", "6")}


def test_the_answer_that_stands_keeps_its_completion(tmp_path: Path) -> None:
    decision = relabelled(tmp_path, rows.candidate(completion="mine #### 5"), "#### 5", "#### 5", "#### 6", "#### 5")
    assert decision.changes == {"votes": ("5", "5", "6", "5")}


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (("#### 5", "#### 6", "#### 6", "#### 5"), "disagreement: 2 of 4 for '5'"),
        (("#### 6", "#### 6", "#### 6 …", "none"), "disagreement: 2 of 4 for '6'"),
        (("none", "none"), "no votes: none of 2 answers parses"),
    ],
)
def test_no_clear_majority(tmp_path: Path, answers: tuple[str, ...], reason: str) -> None:
    assert relabelled(tmp_path / "a", rows.candidate(), *answers).reason == reason
    left = relabelled(tmp_path / "b", rows.candidate(), *answers, otherwise="keep")
    assert left.keep
    assert not left.changes


def test_gold_is_never_voted_away(tmp_path: Path) -> None:
    assert relabelled(tmp_path, rows.candidate(gold=True), "#### 6", "#### 6") == Decision(keep=True)
    assert not ruled.Rules.asked


def test_where_the_slice_is_the_label_it_follows(tmp_path: Path) -> None:
    decision = relabelled(tmp_path, rows.candidate(slice="5"), "#### 6", "#### 6")
    assert decision.changes["slice"] == "6"


def test_the_role_sees_other_rows_and_not_the_candidates_answer(tmp_path: Path) -> None:
    ctx = ruled.context(tmp_path, reply=saying("#### 6", "#### 6"))
    known = ctx.real("train")[0]
    one = rows.candidate(input=known.input, messages=known.messages, completion="secret #### 5")
    relabel.check(relabel.Config(num_answers=2), [one], ctx)
    turns = ruled.Rules.asked[0][1].messages
    assert [turn["role"] for turn in turns] == ["system", *["user", "assistant"] * 3, "user"]
    assert turns[-1]["content"] == known.input
    assert known.input not in [turn["content"] for turn in turns[:-1]]
    assert all("secret" not in turn["content"] for turn in turns)
    seeds = {request.sampling["seed"] for _, request in ruled.Rules.asked}
    assert len(seeds) == 2


def test_verify_judges_the_new_label(tmp_path: Path) -> None:
    ctx = ruled.context(tmp_path, reply=saying(*["#### 6"] * 8))
    kept, rejected = curate([rows.candidate()], [PluginRef(name="relabel"), PluginRef(name="verify")], ctx)
    assert not rejected
    assert (kept[0].answer, kept[0].completion) == ("6", "#### 6")
    assert kept[0].scores == {"relabel": 1.0, "verify": 1.0}
    assert kept[0].lineage["replaced"]["relabel"]["answer"] == "5"
