"""Numbers are read whole or not at all."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloop.numerals import canonical, final_number, numbers, only_number, plain, ungroup


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("10\u202f000", ["10000"]),
        ("1 234 567.5 m", ["1234567.5"]),
        ("10{,}000", ["10000"]),
        (r"10\,000", ["10000"]),
        ("1'000", ["1000"]),
        ("12,34,567", ["1234567"]),
        ("\uff11\uff12", ["12"]),
        ("\u0663\u0664", ["34"]),
        ("2.5e3", ["2500"]),
        ("1e-05", ["0.00001"]),
        (r"2 \times 10^{3}", ["2000"]),
        ("10\u00b3", ["1000"]),
        ("3 1/2", ["3.5"]),
        (r"3\frac{1}{2}", ["3.5"]),
        ("\u00bd", ["0.5"]),
        ("-2/6", ["-1/3"]),
        ("25 m2 or 25 cm\u00b2 of H2O, 7 x^2", ["25", "25", "7"]),
        ("12kg 5x $3 50%", ["12", "5", "3", "50"]),
        ("from 5\u20137", ["5", "7"]),
        ("3,5", [None]),
        ("1 234,5 and 12 345,67", [None, None]),
        ("2√7 √7 3π \\sqrt{7} 4\\sqrt[3]{7} π/4", [None] * 6),
        ("√49 = 7", [None, "7"]),
        ("12 - 5", ["12", "5"]),
        ("total - 5", ["5"]),
        ("12 -5, x = - 5, - 5", ["12", "-5", "-5", "-5"]),
        ("\uff11\uff0c\uff12\uff13\uff14 \uff11\uff0e\uff15 \uff11\uff1a\uff15", ["1234", "1.5", None]),
        ("1.000.000", [None]),
        ("1.234,5", [None]),
        ("12:30", [None]),
        ("3/4/2020", [None]),
        ("2^10 2**10 0x1F 5/0", [None, None, None, None]),
        ("1e999", [None]),
        ("9" * 5000, [None]),
        ("共有7个。いま8です 정답은9입니다 คือ10 उत्तर11 الجواب12", ["7", "8", "9", "10", "11", "12"]),
        ("先有 20 只，走了6只，剩下14只。", ["20", "6", "14"]),
        ("余额是-7。3月-4月", ["-7", "3", "4"]),
        ("m2 v1.2 Python3.11 σ2 ж2", []),
        ("Rs.750 kr.80 Rs. 9", ["750", "80", "9"]),
        ("Fig.4 No.6", [None, None]),
        (r"15~000 15·000 15{\,}000 15\thinspace 000", [None, None, "15000", "15000"]),
        ("5~7", ["5", "7"]),
        (r"\frac{\pi}{6} \frac{\sqrt{5}}{2} \frac{y}{3} \frac{\frac{1}{2}}{3} \frac12", [None] * 5),
        ("y/3 (a + b)/4 y / 3", [None] * 3),
        (r"\cfrac{3}{4} \frac{ 3 }{ 4 } -\tfrac{3}{4} 2\frac{1}{2}", ["0.75", "0.75", "-0.75", "2.5"]),
        (r"4 / 3, \frac{2,000}{3}", ["4/3", "2000/3"]),
        ("5 / 10 / 15", [None] * 3),
        ("2 000/3 and 2\u2009000/3", [None, "2000/3"]),
        ("2.718 281 828 and 2.718 281 82", [None, None]),
        ("4万 1万2000 7億 6천 5千克", [None, None, None, None, "5"]),
    ],
)
def test_numbers(text: str, read: list[str | None]) -> None:
    assert numbers(text) == read


def grouped(number: int, mark: str) -> str:
    return f"{number:,}".replace(",", mark)


SPACES = "\u2000\u2002\u2003\u2005\u2008\u200a\u205f\u3000"


@given(
    st.integers(-(10**15), 10**15),
    st.sampled_from(
        [
            ",",
            " ",
            "\u00a0",
            "\u202f",
            "\u2009",
            "'",
            "\u2019",
            "_",
            "{,}",
            r"\,",
            r"{\,}",
            r"\thinspace ",
            "\u2032",
            *SPACES,
        ]
    ),
    st.sampled_from(["{}", "It is {}.", "#{} kg", "= {}", "({})", "\u20ac{}", "{}%"]),
)
def test_a_grouped_number_is_read_whole(number: int, mark: str, frame: str) -> None:
    assert numbers(frame.format(grouped(number, mark))) == [str(number)]


@given(st.lists(st.text("0123456789", min_size=1), min_size=1, max_size=4), st.text(".,:'_", min_size=3, max_size=3))
def test_never_a_part_of_a_run(digits: list[str], marks: str) -> None:
    """Of digits with one mark between them either all is one number or nothing is read."""
    run = digits[0] + "".join(mark + part for mark, part in zip(marks, digits[1:], strict=False))
    assert len(numbers(run)) == 1
    for number in filter(None, numbers(run)):
        assert Fraction(number) == Fraction("".join(character for character in run if character not in ",'_"))


@given(st.integers(1000, 10**9), st.sampled_from([*SPACES, "~", "·", "′", "{\\,}", "'"]), st.integers(2, 9))
def test_never_a_part_of_a_group_or_fraction(number: int, mark: str, divisor: int) -> None:
    run = grouped(number, mark)
    assert numbers(run) in ([str(number)], [None])
    assert final_number(f"{run}/{divisor}") in (canonical(Fraction(number, divisor)), None)


ALPHABET = re.compile("LATIN|GREEK|CYRILLIC|MATHEMATICAL|MODIFIER|ORDINAL|MICRO|OHM|KELVIN|ANGSTROM|DOUBLE-STRUCK")


@given(st.characters(categories=["Lo"], max_codepoint=0xFFFF), st.integers(0, 10**6))
def test_digits_are_read_after_a_letter_without_case_and_no_decimals_after_its_point(letter: str, number: int) -> None:
    if not ALPHABET.search(unicodedata.name(letter)):
        assert numbers(f"{letter}{number}") == [str(number)]
    assert all(read in (None, str(number)) for read in numbers(f"{letter}.{number}"))


@given(st.sampled_from("aZéßλЖ"), st.integers(0, 10**6))
def test_digits_belong_to_a_word_of_an_alphabet(letter: str, number: int) -> None:
    assert numbers(f"{letter}{number}") == numbers(f"{letter}{number}.{number}") == []
    assert all(read in (None, str(number)) for read in numbers(f"{letter}.{number}"))


@given(st.fractions(max_denominator=1000))
def test_canonical_forms_are_equal_just_where_values_are(value: Fraction) -> None:
    written = canonical(value)
    assert Fraction(written) == value
    assert final_number(written) == written == canonical(Fraction(written))


@pytest.mark.parametrize("text", ["7", " $1,000. ", "50%", "3 1/2", r"\boxed{12}", "$12$", "**12**", "-5", "10 000"])
def test_one_number_from_end_to_end(text: str) -> None:
    assert only_number(text) == final_number(text)


@pytest.mark.parametrize("text", ["7 x^2 + C", "1 or 2", "x = 3", "12:30", "5 apples", "", "none", "3,5"])
def test_no_number_from_end_to_end(text: str) -> None:
    assert only_number(text) is None


@given(
    st.integers(0, 10**12),
    st.sampled_from([",", "\u00a0", "'", "_", "{,}", r"\,"]),
    st.sampled_from(["", ".5", " kg", ", 7"]),
)
def test_ungroup(number: int, mark: str, rest: str) -> None:
    assert ungroup(plain(f"a {grouped(number, mark)}{rest}")) == f"a {number}{rest}"
