"""Words and signs of every script."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloop.characters import count_words, find_words, stands_alone, whole_word

DIFFERENT = """
    7 × 3¦7 ÷ 3    7 − 3¦7 × 3    7·3¦73    8 ∕ 2¦82    x ≥ 1¦x ≤ 1    x ≠ 1¦x = 1    x ≈ 1¦x = 1    p → q¦p ← q
    ¬p¦p    ~p¦p    p ∧ q¦p ∨ q    p & q¦p | q    a ∈ S¦a ∉ S    S ⊂ T¦S ⊃ T    √16¦16    ∑ x¦∏ x    5°¦5    5‰¦5%
    6!¦6    n!¦n    (a + b)!¦(a + b)    a != b¦a = b    -x¦x    x - y¦x y    9 - (2)¦9 (2)    F#¦F    C♯¦C♭    A++¦A
    3:2¦3.2    f'(x)¦f(x)    f''(x)¦f'(x)    4²¦42    2ⁿ¦2n    3½¦31/2    €9¦£9    ₹9¦9    fine 👍¦fine 👎
    की¦का    कि¦की    กา¦กี    มา¦ม้า    பல்¦பால்    বল¦বাল    ကို¦ကူ    resume¦résumé
"""
SAME = """
    12kg¦12 kg    9 − 4¦9 - 4    9 × 4¦9 * 4    9 ÷ 4¦9 / 4    ½¦1/2    4²¦4^2    １２¦12    ١٢¦12    Straße¦STRASSE
    5x¦5 x    Stop!¦stop    \ufeffham¦ham    co\u00adop¦coop    ❤️¦❤    well-known¦well known    say 'yes'¦say yes
    $x + 1$¦x + 1    cafe\u0301¦café    Tom’s¦Tom's    10\u00a0km¦10 km
"""


def pairs(table: str) -> list[list[str]]:
    return [cell.split("¦") for line in table.strip().splitlines() for cell in line.strip().split("    ")]


@pytest.mark.parametrize(("one", "other"), pairs(DIFFERENT))
def test_a_sign_or_mark_tells_two_texts_apart(one: str, other: str) -> None:
    assert find_words(one) != find_words(other)


@pytest.mark.parametrize(("one", "other"), pairs(SAME))
def test_what_is_written_otherwise_is_the_same(one: str, other: str) -> None:
    assert find_words(one) == find_words(other)


SYMBOLS = [
    chr(code)
    for code in range(0x110000)
    if unicodedata.category(chr(code)) in ("Sm", "Sc", "So") and chr(code) not in "$﹩＄"
]


@given(st.sampled_from(SYMBOLS), st.text("ab12 é数"), st.text("ab12 é数"))
def test_no_symbol_is_dropped(symbol: str, before: str, after: str) -> None:
    assert find_words(f"{before} {symbol} {after}") != find_words(f"{before}  {after}")


@given(
    st.characters(categories=["L"]),
    st.characters(categories=["Mc", "Mn"], exclude_characters=map(chr, range(0xFE00, 0xFE10))),
)
def test_a_mark_belongs_to_its_letter(letter: str, mark: str) -> None:
    with_mark, without = find_words(letter + mark), find_words(letter)
    if unicodedata.category(unicodedata.normalize("NFKC", letter + mark)[-1])[0] == "M":
        assert with_mark != without or 0xE0100 <= ord(mark) <= 0xE01EF
    assert len(with_mark) <= len(without) + 1


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Two words.", 2),
        ("don't - stop", 3),
        ("你好。世界！", 4),
        ("東京 2020 と大阪", 6),
        ("ดีมาก", 4),
        ("अच्छा दिन", 2),
        ("안녕 세계", 2),
        ("", 0),
    ],
)
def test_count_words(text: str, count: int) -> None:
    assert count_words(text) == count


@pytest.mark.parametrize(
    ("text", "word", "alone"),
    [
        ("정답은 D입니다", "D", True),
        ("12번", "12", True),
        ("긍정적", "긍정", False),
        ("긍정", "긍정", True),
        ("Kim은", "Kim", True),
        ("Kims", "Kim", False),
    ],
)
def test_a_word_ends_where_a_hangul_particle_begins(text: str, word: str, alone: bool) -> None:
    start = text.index(word)
    assert stands_alone(text, start, start + len(word)) == alone


@given(st.text("aé雨ดีि한1 -", min_size=1, max_size=3), st.text("aé雨ดีि한1 -", max_size=8))
def test_a_whole_word_is_found_just_where_it_stands_alone(word: str, text: str) -> None:
    anywhere = [match.start() for match in re.finditer(f"(?={re.escape(word)})", text)]
    whole = [match.start() for match in re.finditer(f"(?={whole_word(word)})", text)]
    assert whole == [start for start in anywhere if stands_alone(text, start, start + len(word))]
