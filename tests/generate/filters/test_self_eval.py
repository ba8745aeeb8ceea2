"""P(True) and P(IK) from stated log-probabilities, and their calibration."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest

from generate.filters import self_eval
from synthloop.chat import load_tokenizer
from tests.generate import rows
from tests.generate.filters import ruled


def stating(probabilities: dict[str, float]) -> Any:
    """Log-probabilities a token, so that the whole replies have p and 1 - p, by what the prompt contains."""

    def logprob(text: str) -> float:
        reply = text.rpartition("<|assistant|>")[2].removesuffix("<|end|>")
        p = next(value for part, value in probabilities.items() if part in text)
        tokenizer = load_tokenizer("quickstart/student")
        size = len(tokenizer(f"{reply}<|end|>", add_special_tokens=False)["input_ids"])
        return math.log(p if reply == "True" else 1 - p) / size

    return logprob


BATCH = [
    rows.candidate(1, completion="Sure. #### 5", gold=True),
    rows.candidate(2, completion="Perhaps. #### 4", gold=True),
    rows.candidate(3, completion="Hardly. #### 5"),
]
STATED = {"Sure.": 0.9, "Perhaps.": 0.6, "Hardly.": 0.2}


def test_p_true_is_the_normalised_probability(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ctx = ruled.context(tmp_path, logprob=stating(STATED))
    with caplog.at_level(logging.INFO, "synthloop.curate"):
        decisions = self_eval.check(self_eval.Config(), BATCH, ctx)
    assert [one.score for one in decisions] == pytest.approx([0.9, 0.6, 0.2])
    assert [one.reason for one in decisions] == [None, None, "doubted: P(True) 0.20, below 0.5"]
    # Gold are the first two: right at 0.9, wrong at 0.6.
    assert "ECE 0.350, Brier 0.185, 50% right (n=2)" in caplog.text
    prompts = [ruled.decode(request.prompt_token_ids or ()) for _, request in ruled.Rules.asked]
    assert len(prompts) == 6
    assert all("Here are some answers" not in text for text in prompts)


def test_the_band_can_have_an_upper_end(tmp_path: Path) -> None:
    cfg = self_eval.Config(min_probability=0.0, max_probability=0.7)
    decisions = self_eval.check(cfg, BATCH, ruled.context(tmp_path, logprob=stating(STATED)))
    assert [one.reason for one in decisions] == ["already known: P(True) 0.90, above 0.7", None, None]


def test_votes_are_shown_when_asked_for(tmp_path: Path) -> None:
    ctx = ruled.context(tmp_path)
    self_eval.check(self_eval.Config(show_votes=True), [rows.candidate(votes=("5", None, "4", "5"))], ctx)
    text = ruled.decode(ruled.Rules.asked[0][1].prompt_token_ids or ())
    assert "considered:\n- 5\n- 4\n\n" in text


def test_p_ik_sees_no_answer_and_is_held_against_the_roles_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ctx = ruled.context(tmp_path, reply=lambda model, request: "#### 5", logprob=lambda text: -1.0)
    batch = [rows.candidate(1, gold=True, completion="Secret. #### 5"), rows.candidate(2, completion="Secret. #### 5")]
    with caplog.at_level(logging.INFO, "synthloop.curate"):
        self_eval.check(self_eval.Config(measure="p_ik", min_probability=0.0), batch, ctx)
    scored = [request for _, request in ruled.Rules.asked if request.prompt_token_ids]
    answered = [request for _, request in ruled.Rules.asked if not request.prompt_token_ids]
    assert len(scored) == 4
    assert all("Secret" not in ruled.decode(request.prompt_token_ids or ()) for request in scored)
    assert len(answered) == 1
    assert answered[0].messages[-1]["content"] == batch[0].input
    assert "100% right (n=1)" in caplog.text


def test_without_gold_calibration_is_unknown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "synthloop.curate"):
        self_eval.check(self_eval.Config(), BATCH[2:], ruled.context(tmp_path, logprob=stating(STATED)))
    assert "calibration unknown, no gold" in caplog.text
