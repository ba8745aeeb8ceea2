"""What rounds are compared at: the same number of words of a text, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eval import collapse, diversity
from eval.collapse import WORDS_PER_REPLY, comparable, pool_sample, verdict, words_per_text
from eval.signals import Observation
from synthloop.config import Config, parse
from synthloop.store import write_json

SETTINGS: dict[str, Any] = {"name": "t", "task": {"name": "word_problems"}, "student": {"model": "m"}}
REPLIES = [f"the {n} cats sat on {n * n} mats today" for n in range(16)]
REAL = diversity.reference(REPLIES)


def seen(replies: list[str], rows: list[str] | None = None) -> Observation:
    return Observation(
        likelihood=None,
        scores={"value": 0.5, "slices": {}},
        replies=[],
        written=diversity.sample(replies, 4 * len(replies)),
        real=REAL,
        pool=None if rows is None else pool_sample(rows, per_row=4, num_seeds=16),
        real_pool=REAL,
        mix=None,
    )


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (["yes", "no", "no"], 1),
        (["one of eight words in this short text"], 2),
        (["a much longer text " * 20, "of which four words are read " * 20], WORDS_PER_REPLY),
        (["他有三个苹果和五个梨子还有很多桃"], 4),
        ([], WORDS_PER_REPLY),
    ],
)
def test_as_many_words_are_read_as_a_quarter_of_a_real_text_holds(real: list[str], expected: int) -> None:
    assert words_per_text(real, WORDS_PER_REPLY) == expected


def test_texts_too_short_or_too_few_are_not_measured_and_that_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = parse(Config, SETTINGS, "config")
    found = verdict(seen(["no"] * 16, REPLIES[:3]), 1, {}, config)
    assert {found["signals"][name] for name in diversity.MEASURES} == {None}
    assert {found["signals"][f"data_{name}"] for name in diversity.MEASURES} == {None}
    assert (found["measured_on"]["budget_reached"], found["measured_on"]["data_budget_reached"]) == (False, False)
    assert (
        "the student's replies is not measured in this round: 16 texts of 16 words in all are less than" in caplog.text
    )
    assert "the kept synthetic rows is not measured in this round: 3 texts of 24 words" in caplog.text
    caplog.clear()
    found = verdict(seen(REPLIES, REPLIES[:4]), 1, {}, config)
    assert found["signals"]["vendi"] > 1
    assert found["signals"]["data_vendi"] > 1
    assert caplog.text == ""


def test_rounds_measured_otherwise_are_not_compared() -> None:
    earlier = {"signals": {"nll": 1.0, "vendi": 9.0, "data_vendi": 8.0}}
    here = seen(REPLIES, REPLIES)
    assert comparable(earlier, here) == {"nll": 1.0}, "by a version that told no number of words"
    same = {**earlier, "measured_on": collapse.budgets(here)}
    assert comparable(same, here) == earlier["signals"]
    assert comparable({**earlier, "measured_on": {"words_per_reply": 4, "words_per_row": 9}}, here) == {
        "nll": 1.0,
        "vendi": 9.0,
    }


def test_controls_measured_otherwise_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, config = tmp_path / "controls.json", parse(Config, SETTINGS, "config")
    config = config.model_copy(update={"collapse": config.collapse.model_copy(update={"controls": path})})
    signals = {"accuracy": [0.5, 0.51, 0.49], "vendi": [9.0, 9.1, 9.2]}

    def tested() -> set[str]:
        found = verdict(seen(REPLIES), 1, {}, config)
        return {one["signal"] for one in found["tests"] if "control" not in one["reason"]}

    write_json(path, {"signals": signals})
    assert tested() == {"accuracy"}
    assert "so not tested: vendi. Collect the controls again" in caplog.text
    caplog.clear()
    write_json(path, {"signals": signals, "measured_on": {"words_per_reply": 4}})
    assert tested() == {"accuracy", "vendi"}
    assert caplog.text == ""
