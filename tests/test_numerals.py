"""Numbers are read whole or not at all."""

from __future__ import annotations

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
    ],
)
def test_numbers(text: str, read: list[str | None]) -> None:
    assert numbers(text) == read


def grouped(number: int, mark: str) -> str:
    return f"{number:,}".replace(",", mark)


@given(
    st.integers(-(10**15), 10**15),
    st.sampled_from([",", " ", "\u00a0", "\u202f", "\u2009", "'", "\u2019", "_", "{,}", r"\,"]),
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
