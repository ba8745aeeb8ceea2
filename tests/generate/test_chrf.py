"""chrF against sacreBLEU 2.6.0 (`sentence_chrf(hypothesis, [reference]).score`, default settings)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generate.chrf import chrf


@pytest.mark.parametrize(
    ("hypothesis", "reference", "score"),
    [
        ("The cat sat on the mat.", "The cat sat on the mat.", 100.0),
        ("The cat sat on a mat.", "The cat sat on the mat.", 65.8003),
        ("Ein Hund schläft im Garten.", "Eine Katze schläft im Garten.", 65.0341),
        ("He went home early.", "He returned home before noon.", 14.7727),
        ("東京は日本の首都です。", "東京は日本の首都でした。", 70.2313),
        ("ab", "abc", 63.6364),
        ("abc", "xyz", 0.0),
        ("", "abc", 0.0),
    ],
)
def test_as_sacrebleu_has_it(hypothesis: str, reference: str, score: float) -> None:
    assert 100 * chrf(hypothesis, reference) == pytest.approx(score, abs=5e-5)


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_a_text_is_like_itself_and_nothing_is_more_so(text: str, other: str) -> None:
    assert chrf(text, text) == pytest.approx(1)
    assert 0 <= chrf(other, text) <= 1 + 1e-9


@given(st.text(alphabet="ab \n"), st.text(alphabet="ab \n"))
def test_white_space_does_not_count(text: str, other: str) -> None:
    assert chrf(text, other) == chrf(" ".join(text), "".join(other.split()))
