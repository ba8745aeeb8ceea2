"""What a row says of its own answer: thumbs, ratings and preferences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloop.conversations import LeftOut
from synthloop.errors import UserError
from synthloop.verdicts import BAD, GOOD, THUMBS, heed_verdict


@pytest.mark.parametrize("value", [False, "false", "False"])
@pytest.mark.parametrize("name", ["label", "kto_tag", "is_correct"])
def test_thumbs_down_leaves_a_row_out_and_thumbs_up_is_read(name: str, value: Any) -> None:
    with pytest.raises(LeftOut, match=f"an answer that `{name}` calls bad"):
        heed_verdict({name: value}, (), "x", "")
    assert heed_verdict({name: not value if isinstance(value, bool) else "True"}, (), "x", "") == {name}
    assert heed_verdict({name: value}, {name}, "x", "") == set(), "what is read as something else is no thumb"


@given(st.sampled_from(THUMBS), st.sampled_from([str.upper, str.title, str.lower]), st.sampled_from(["", "🏽"]))
def test_a_thumb_means_the_same_in_every_field_and_spelling(name: str, spell: Callable[[str], str], tone: str) -> None:
    for word in BAD:
        with pytest.raises(LeftOut, match=f"`{name}` calls bad"):
            heed_verdict({name: spell(word.replace(" ", "_")) + tone}, (), "x", "")
    assert all(heed_verdict({name: f" {spell(word)}{tone}"}, (), "x", "") == {name} for word in GOOD)
    for number in (-1, 0, 1, -1.0, "1"):
        with pytest.raises(UserError, match="If it says whether the answer is good"):
            heed_verdict({name: number}, (), "x", "")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"feedback": -1}, "'feedback' is -1. If it says whether the answer is good: true or false. Rename it."),
        ({"label": 0}, "'label' is 0. If it says whether the answer is good: true or false. Rename it."),
        ({"rating": 2}, r"'rating' is 2, .* row.pop\('rating'\) >= 4.* Rename it."),
        ({"rating": {"type": "five_star", "value": 1.0}}, "not known from where on"),
        ({"rejected": "No sea."}, "train.objective=dpo.* Rename it."),
    ],
)
def test_a_verdict_that_needs_a_choice_is_refused(row: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        heed_verdict(row, (), "x", "Rename it.")
    assert heed_verdict(row, row, "x", "") == set()
    assert heed_verdict(dict.fromkeys(row), (), "x", "") == set(), "a column that says nothing"


def test_other_columns_of_the_same_names_are_no_verdict() -> None:
    row = {"label": "geography", "correct": "B", "feedback": "Well put.", "kto": 7, "stars": None}
    assert heed_verdict(row, (), "x", "") == set()
