"""Replies that change in length or layout alone, in a few runs; and that the study loses variety where it says so."""

from __future__ import annotations

import pytest

from scripts import study_length
from scripts.study_length import KINDS, Outcome, run, summarise

CALM = [kind for kind in KINDS if not kind.loss and not kind.joined and (kind.growth != 1 or kind.layout == "ends")]
COPIES = [kind for kind in KINDS if kind.loss == "copies"]


@pytest.mark.parametrize("kind", CALM, ids=lambda kind: kind.name)
def test_texts_that_are_as_varied_as_before_are_no_collapse(kind: study_length.Kind) -> None:
    assert [run(kind, seed) for seed in range(2)] == [Outcome(None, ())] * 2


@pytest.mark.parametrize("kind", COPIES, ids=lambda kind: kind.name)
def test_a_collapse_is_found_whatever_the_length(kind: study_length.Kind) -> None:
    found = run(kind, 0).round
    assert found is not None
    assert found <= study_length.CAUGHT_BY


def test_a_line_has_its_counts() -> None:
    outcomes = [Outcome(3, ("vendi",)), Outcome(5, ("vendi", "entropy")), Outcome(None, ())]
    found = summarise(outcomes)
    assert found == {"runs": 3, "alarms": 2, "early": 1, "signals": {"vendi": 2, "entropy": 1}}
