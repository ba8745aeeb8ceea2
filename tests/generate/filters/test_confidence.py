"""Likelihoods of answers, and difficulty."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from generate.filters import confidence, ifd
from synthloop.records import Message
from tests.generate import rows
from tests.generate.filters import ruled

BATCH = [rows.candidate(n, completion=f"#### {text}") for n, text in enumerate(("5", "6", "7"))]


def by_answer(text: str) -> float:
    return {"5": -0.01, "6": -1.0, "7": -3.0}[text.rpartition("#### ")[2][0]]


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        ({}, ["", "", "unlikely: -3.00 nats a token, below -2.0"]),
        ({"min_logprob": -5.0}, ["", "", ""]),
        ({"min_logprob": -5.0, "max_logprob": -0.05}, ["already known: -0.010 nats a token, above -0.05", "", ""]),
    ],
)
def test_the_mean_logprob_decides(tmp_path: Path, settings: dict[str, Any], reasons: list[str]) -> None:
    decisions = confidence.check(confidence.Config(**settings), BATCH, ruled.context(tmp_path, logprob=by_answer))
    assert [one.reason or "" for one in decisions] == reasons
    assert [one.score for one in decisions] == pytest.approx([-0.01, -1.0, -3.0])


def test_the_prompt_is_the_students_and_the_answer_is_whole(tmp_path: Path) -> None:
    confidence.check(confidence.Config(role="student"), BATCH[:1], ruled.context(tmp_path))
    ((_, request),) = ruled.Rules.asked
    assert request.prompt_token_ids is not None
    assert ruled.decode(request.prompt_token_ids) == f"<|user|>{BATCH[0].input}<|end|><|assistant|>#### 5<|end|>"


def test_limits_that_keep_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match="not above"):
        confidence.Config(min_logprob=-1.0, max_logprob=-1.0)


def by_instruction(text: str) -> float:
    """Alone every answer has -2; the instruction helps '5' a lot, '6' a little, and hurts '7'."""
    alone = text.startswith("<|user|><|end|>")
    return -2.0 if alone else {"5": -0.5, "6": -1.5, "7": -2.5}[text.rpartition("#### ")[2][0]]


def test_ifd_is_the_quotient_of_the_perplexities(tmp_path: Path) -> None:
    decisions = ifd.check(ifd.Config(), BATCH, ruled.context(tmp_path, logprob=by_instruction))
    assert [one.score for one in decisions] == pytest.approx([math.exp(-1.5), math.exp(-0.5), math.exp(0.5)])
    assert [one.reason for one in decisions] == [None, None, "not helped: IFD 1.65, not below 1.0"]


def test_of_the_helped_the_hardest_share_is_kept(tmp_path: Path) -> None:
    decisions = ifd.check(ifd.Config(keep_share=0.5), BATCH, ruled.context(tmp_path, logprob=by_instruction))
    assert [one.keep for one in decisions] == [False, True, False]
    assert decisions[0].reason == "easy: IFD 0.22, not in the hardest 50%"


def test_the_answer_alone_has_no_turn_of_the_task(tmp_path: Path) -> None:
    system = Message(role="system", content="Be brief.")
    one = BATCH[0].model_copy(update={"messages": (system, *BATCH[0].messages)})
    ifd.check(ifd.Config(), [one], ruled.context(tmp_path))
    instructed, alone = (ruled.decode(request.prompt_token_ids or ()) for _, request in ruled.Rules.asked)
    assert "Be brief." in instructed
    assert alone == "<|user|><|end|><|assistant|>#### 5<|end|>"
