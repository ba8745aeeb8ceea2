"""Numbers in a text, each read whole or not at all.

`numbers(text)` gives every number in order, in canonical form: a plain decimal without trailing zeros ('1234.5', '-3')
or, where the decimals would not end, a reduced fraction ('1/3'). A run of digits that is not one number for certain is
given as None, and never as a part of itself.

| read                | as         |                                     | not read (None)                       |
|---------------------|------------|-------------------------------------|---------------------------------------|
| `1,234.50` `1 234`  | 1234.5     | grouped by comma, space, apostrophe | `3,5` `1,2,3` (decimal comma? a list?) |
| `1,00,000`          | 100000     | Indian groups                       | `1.000.000` `1.2.3`                   |
| `10{,}000` `10\\,000` | 10000      | LaTeX                               | `12:30` `3:2` (time, ratio)           |
| `3 1/2` `½` `\\frac{1}{2}` | 3.5, 0.5 | fractions                          | `3/4/2020`                            |
| `2e3` `2 × 10^3` `10³` | 2000    | powers of ten                       | `2^10` `0x1F`                         |
| `12kg` `5x` `Rs.5` `50%` | 12    | units are ignored                   | `Fig.3` `3万` `x/2` `\\frac{x}{2}`     |
| `１２` `٣٤`          | 12         | digits of any script                | `2√3` `5π` `\\sqrt{2}`                |

Digits inside a word of Latin, Greek or Cyrillic letters (`m2`, `H2O`, `v1.2`, `x^2`) are no number; one may stand right
after a letter of any other script (`一共12个`, `정답은12`). A minus sign belongs to its number unless it follows such a
word, a number or a bracket, where it subtracts or hyphenates.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

MAX_DIGITS = 400
"""Longer numbers are not read: that is more than a float holds. Chosen, not measured."""

_CHARACTERS = str.maketrans(
    {
        **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full width
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63", "-"),
        "\u066b": ".",
        "\u066c": ",",
        "\u2044": "/",
        **dict.fromkeys("\u2019\u2032", "'"),
        **dict.fromkeys("\u00a0\u2004\u2005\u2006\u2007\u2008\u200a\u202f\u205f", "\u2009"),
        **dict.fromkeys("\u2000\u2001\u2002\u2003\u3000", " "),
    }
)
_FRAC = r"\\(?:[cdts]|nice)?frac"
_DIGITS = r"\d(?:[\d.,'_ \u2009]*\d)?"
_OVER = rf"{_DIGITS})\s*\}}\s*\{{\s*({_DIGITS})\s*\}}"
_LATEX = (
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\{\\[,:;]\}|\\[,:;]|\\ (?=\d)|\\(?:thin|med|thick)space(?![a-zA-Z])\s*"), "\u2009"),
    (re.compile(r"\\!"), ""),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\\(?:times|cdot)(?![a-zA-Z])"), "×"),
    (re.compile(rf"(?<=\d){_FRAC}\s*\{{\s*({_OVER}"), r" \1/\2"),
    (re.compile(rf"{_FRAC}\s*\{{\s*(-?{_OVER}"), r"\1/\2"),
)
_BOLD = re.compile(r"^\*\*(.*)\*\*$")
_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺"
_SUPERSCRIPT = re.compile(f"[{_SUPERSCRIPTS}]+")
_VULGAR = re.compile("(\\d?)([¼-¾⅐-⅞])")

_LETTER = (
    r"A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u037d\u037f-\u0386\u0388-\u052f\u1e00-\u1fff"
    r"\U0001d400-\U0001d7cb"
)
"""Latin, Greek and Cyrillic letters and the marks on them: the ones that digits right after them belong to."""
_TIMES = r"(?:[万萬亿億兆만억천]|[千百](?![克米瓦卡分]))"
"""Thousands and the like, after a number a part of it; 千克 is a kilogram."""
_ARGUMENT = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"

_WHOLE = r"""(?: \d{1,3}(?:,\d{3})+ | \d{1,2}(?:,\d{2})+,\d{3}           # 1,234,567 and 12,34,567
               | \d{1,3}(?:[ \u2009]\d{3})+ | \d{1,3}(?:['_]\d{3})+ | \d+ )"""
_DECIMAL = rf"(?: {_WHOLE}(?:\.\d+)? | (?<![^\W\d_])\.\d+ )"
_EXPONENT = r"\^\{?[+-]?\d+\}?"
_TOKEN = re.compile(
    rf"""
    (?=[\w.^+$€£¥₹√∛∜\\/-]) (?:                                        # what a token can start with, for speed
      (?P<irrational> (?:{_DECIMAL}\s?)? (?:[√∛∜]|\\sqrt(?:\[\d+\])?) \s?[({{]?{_DECIMAL}
        | {_DECIMAL}\s?(?:π|\\pi)(?:\s?/\s?\d+)? | (?:π|\\pi)\s?/\s?\d+ ) |
      (?<![{_LETTER}\d_]) (?i:rs|rp|kr|tk|fr)\.(?=\d)                   # a currency with its point
    | [{_LETTER}] [{_LETTER}\d_]* (?:(?<=\d)\.\d[{_LETTER}\d_]*)* (?:{_EXPONENT})?  # a word, with the digits in it
    | (?<=[)\]}}]) {_EXPONENT}                                           # (x + 1)^2
    | (?P<hexadecimal> 0[xX][0-9a-fA-F]+ )
    | (?P<sign> (?<![{_LETTER}\d_.)\]}}]) (?<!\d[^\W\d_]) (?<!\d[^\W\d_][^\W\d_])
        (?: [+-][$€£¥₹]? | (?<![\w.)\]}}][ \u2009])[+-]\s[$€£¥₹]? | [$€£¥₹][+-] ) )? [$€£¥₹]?
      (?: (?P<whole>{_WHOLE}) [ \u2009] (?!\d{{3}}/)(?P<above>\d+)/(?P<below>\d+)  # 3 1/2
        | (?P<dividend>{_DECIMAL}) [ \u2009]?/[ \u2009]? (?P<divisor>{_DECIMAL})  # 1/2
        | (?P<mantissa>{_DECIMAL}) \s?[×x*·]\s? 10 (?:\^|\*\*)\{{?(?P<power>[+-]?\d+)\}}?
        | 10 (?:\^|\*\*)\{{?(?P<ten>[+-]?\d+)\}}?
        | (?P<scientific>{_DECIMAL}) [eE] (?P<exponent>[+-]?\d+)
        | (?P<decimal>{_DECIMAL}) )
      (?! \d | [.,:'_]\d | [ \u2009]?/[ \u2009]?\d | [~·]\d{{3}}(?!\d) | (?<=\.\d{{3}})[ \u2009]\d{{3}}(?!\d)
        | \s?{_TIMES} | [ \u2009]\d{{3}}[.,:/'_]\d | \*\*\d | \s?{_EXPONENT} | [eE][+-]?\d )
    | (?P<unread> {_FRAC}(?![a-zA-Z]) (?:\s*{_ARGUMENT}|\s*\d){{0,2}}
      | (?:(?:(?<=[\w)\]}}%])|(?<=[\w)\]}}%][ \u2009]))/[ \u2009]?)? [$€£¥₹]?\.?\d
      (?:\d{{0,2}}(?:[ \u2009]\d{{3}})+(?!\d))?
      (?:(?:[\d.,:/'_^{{}}*~·]|{_TIMES})*[\d}}])? (?:[eE][+-]?\d+)?
      (?:(?<=\.\d{{3}})(?:[ \u2009]\d{{3}})+(?:[ \u2009]\d\d?)?(?!\d))? ) )
    """,
    re.VERBOSE,
)


def numbers(text: str) -> list[str | None]:
    """Every number of `text` in canonical form, in order; None where digits are not one number for certain."""
    return [_value(match) for match in _matches(text)]


def final_number(text: str) -> str | None:
    """The last number of `text`, or None where there is none or it is not to be read."""
    found = _matches(text)
    return _value(found[-1]) if found else None


def single_number(text: str) -> tuple[str | None, str]:
    """(the number, what is around it) of a text with one number; (None, the text) of any other."""
    found = _matches(text)
    if len(found) != 1:
        return None, text
    (match,) = found
    return _value(match), f"{match.string[: match.start()]} {match.string[match.end() :]}"


def _matches(text: str) -> list[re.Match[str]]:
    return [match for match in _TOKEN.finditer(plain(text)) if match.lastgroup]


def only_number(text: str) -> str | None:
    """The number that `text` is from end to end, but for spaces, a currency, `%` and a full stop; else None."""
    bare = _BOLD.sub(r"\1", plain(text).strip()).removeprefix("\\boxed{").removesuffix("}").strip("$ ")
    match = _TOKEN.match(bare)
    rest = bare[match.end() :].strip() if match and match.lastgroup else None
    return _value(match) if match and rest in ("", ".", "%", "%.", "€", "£", "¥", "₹") else None


def plain(text: str) -> str:
    """`text` with ASCII digits, signs and separators, LaTeX's way of writing numbers undone."""
    if not text.isascii():
        text = "".join(str(unicodedata.digit(c)) if c.isdecimal() else c for c in text.translate(_CHARACTERS))
    for pattern, written in _LATEX:
        text = pattern.sub(written, text)
    text = _VULGAR.sub(_fraction, text)
    return _SUPERSCRIPT.sub(lambda m: "^" + "".join("0123456789-+"[_SUPERSCRIPTS.index(c)] for c in m[0]), text)


_GROUPED = re.compile(
    rf"(?<![{_LETTER}\d_.,'])"
    r"(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d{1,3}(?:\u2009\d{3})+|\d{1,3}(?:['_]\d{3})+)"
    r"(?!\d|[,'_\u2009]\d)"
)


def ungroup(text: str) -> str:
    """A `plain` text with its grouped numbers as digits alone. One grouped by spaces, perhaps two numbers, stays."""
    return _GROUPED.sub(lambda match: re.sub(r"\D", "", match[0]), text)


def _fraction(match: re.Match[str]) -> str:
    written = unicodedata.normalize("NFKC", match[2]).replace("\u2044", "/")
    return f"{match[1]} {written}" if match[1] else written


def _value(match: re.Match[str]) -> str | None:
    """The canonical form of a match of `_TOKEN`; None where it is not to be read."""
    if match["unread"] or match["hexadecimal"] or match["irrational"] or sum(map(str.isdigit, match[0])) > MAX_DIGITS:
        return None
    number = _magnitude(match.groupdict())
    if number is None:
        return None
    return canonical(-number if "-" in (match["sign"] or "") else number)


def _magnitude(part: dict[str, str]) -> Fraction | None:
    exponent = int(part["power"] or part["ten"] or part["exponent"] or 0)
    if abs(exponent) > MAX_DIGITS:
        return None
    if part["whole"]:
        below, above = int(part["below"]), int(part["above"])
        return _decimal(part["whole"]) + Fraction(above, below) if above < below else None
    if part["dividend"]:
        divisor = 0 if " " in part["dividend"] else _decimal(part["divisor"])  # 1 000/3: grouped, or mixed?
        return _decimal(part["dividend"]) / divisor if divisor else None
    if part["ten"]:
        return Fraction(10) ** exponent
    return _decimal(part["mantissa"] or part["scientific"] or part["decimal"]) * Fraction(10) ** exponent


def _decimal(written: str) -> Fraction:
    return Fraction(re.sub("[^0-9.]", "", written))


def canonical(number: Fraction) -> str:
    """`number` as a plain decimal without trailing zeros or, where its decimals do not end, as a reduced fraction."""
    rest, places = number.denominator, 0
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest, count = rest // prime, count + 1
        places = max(places, count)
    if rest != 1:
        return f"{number.numerator}/{number.denominator}"
    digits = str(abs(number.numerator) * 10**places // number.denominator).rjust(places + 1, "0")
    sign = "-" if number < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"
