"""Agreement of judges against published and hand-worked numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generate.agreement import krippendorff, observed

# Krippendorff 2011, section C: 12 units, four observers, missing verdicts left out; nominal alpha 0.743.
PUBLISHED = ["111", "2223", "3333", "3333", "2222", "1234", "4444", "1121", "2222", "555", "11", "3"]
BINARY = ["01", "11", "01", "00", "00", "01", "00", "00", "10", "00"]
"""Section A of the same: two observers, ten units, alpha 0.095."""


@pytest.mark.parametrize(("units", "alpha"), [(PUBLISHED, 0.743), (BINARY, 0.095), (["ab", "ab"], -0.5)])
def test_krippendorff(units: list[str], alpha: float) -> None:
    assert krippendorff([list(unit) for unit in units]) == pytest.approx(alpha, abs=0.001)


def test_what_cannot_be_told_is_none() -> None:
    assert krippendorff([["a"], ["b"]]) is None
    assert krippendorff([["a", "a"]]) is None
    assert observed([["a"], []]) is None


def test_observed_agreement_is_the_mean_over_units() -> None:
    assert observed([["a", "a"], ["a", "b"], ["a"]]) == 0.5
    assert observed([["a", "a", "b"]]) == pytest.approx(1 / 3)


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=2, max_size=4), min_size=1))
def test_alpha_is_one_exactly_where_all_agree(units: list[list[str]]) -> None:
    alpha = krippendorff(units)
    if alpha is not None:
        assert alpha <= 1
        assert (alpha == pytest.approx(1)) == (observed(units) == 1)
