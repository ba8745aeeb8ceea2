"""What a word is, in every script: marks belong to their letters, signs say something, some scripts set no spaces.

    >>> find_words("12kg − 5kg = ?")
    ['12', 'kg', '-', '5', 'kg', '=']

| a word                                   | a sign, which is a word of its own            | neither              |
|------------------------------------------|-----------------------------------------------|----------------------|
| letters, marks and digits in a row       | symbols: + = ≤ ∪ → € 🙂, and * / % &           | other punctuation    |
| digits at the start of one: 12 of 12kg   | - of a number or a variable: -5, x - y        | - that hyphenates    |
| a letter of Chinese, Japanese, Thai ...  | ! of 5!, n!, !=   # of C#   : of 3:2   ' of f' | $, which LaTeX uses  |

What looks the same is: NFKC, case folded, one minus, one times, one divided by, ASCII digits, invisible characters
dropped. `5²` is `5^2` and not `52`, `3½` is `3 1/2`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import groupby
from typing import NamedTuple

_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Code points, first and last, of scripts that write words side by side (Unicode's UAX 29, section 4)."""

_HANGUL = r"\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7c6\ud7cb-\ud7fb"
"""Letters of a script with spaces, whose particles are glued to a word or number of any other: C입니다, 12는."""
_is_hangul = re.compile(f"[{_HANGUL}]").match


def in_word(character: str) -> bool:
    """Whether `character` is part of a word: a letter, a mark on one (vowel signs, accents), a digit or '_'."""
    return unicodedata.category(character)[0] in "LMN" or character == "_"


def sets_no_spaces(character: str) -> bool:
    """Whether `character` is of a script whose words stand side by side, so that any place may be a word's border."""
    return any(first <= ord(character) <= last for first, last in _WITHOUT_SPACES)


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether `text[start:end]` is cut out of no word: neither end goes on in a letter of a script with spaces.

    Between a Hangul letter and any other letter or digit a word ends: particles are glued to foreign words.
    """
    return _is_border(text[start - 1 : start], text[start]) and _is_border(text[end : end + 1], text[end - 1])


def _is_border(outside: str, inside: str) -> bool:
    if not outside or not in_word(outside) or not in_word(inside):
        return True
    if sets_no_spaces(inside):
        return True
    differ = sets_no_spaces(outside) or bool(_is_hangul(outside)) != bool(_is_hangul(inside))
    return differ and unicodedata.category(outside)[0] != "M"


SIGNS = "+*/=<>^%&|~"
"""ASCII characters that are signs wherever they stand."""

SOMETIMES_SIGNS = "-!#:'"
"""ASCII punctuation that is a sign in some places."""

_SPACE, _ONE_LETTER = r"[ \t-\r\x1c-\x1f]*", r"\b[^\W\d_]"
_SIGNS_HERE = (
    rf"-(?={_SPACE}[($]*\d)",  # before a number
    rf"(?<![^\W\d_][^\W\d_])-(?=[^\W\d_]\b)|(?<={_ONE_LETTER} )-(?= [^\W\d_]\b)",  # -x, x-y, x - y
    rf"(?<=[\d)])!|(?<={_ONE_LETTER})!|!(?==)",  # 5!, (n - 1)!, n!, !=
    r"(?<=\w)#",  # C#
    r"(?<=\d):(?=\d)",  # 3:2, 12:30
    rf"(?<={_ONE_LETTER})'(?!\w)|(?<={_ONE_LETTER}')'(?!\w)",  # f'(x), f''(x)
)
SIGN_HERE = f"(?=[{SOMETIMES_SIGNS}])(?:{'|'.join(_SIGNS_HERE)})"
"""Where one of SOMETIMES_SIGNS is a sign: a pattern that finds the same in an ASCII text and in its bytes."""

_ASCII_WORD = re.compile(rf"\d+|\w+|[{SIGNS}]|{SIGN_HERE}")

_SAME = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
    **dict.fromkeys("×·⋅∙", "*"),
    **dict.fromkeys("÷\u2044∕", "/"),
    **dict.fromkeys("\u2019\u2032", "'"),
}
_SUPERSCRIPT = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ]+)")
_FRACTION = re.compile(r"(?<=\d)([¼-¾⅐-⅞])")


class _Patterns(NamedTuple):
    """Regular expressions that know all of Unicode; made when the first text needs them, which takes some 30 ms."""

    outside: str
    outside_hangul: str
    word: re.Pattern[str]
    piece: re.Pattern[str]
    spaceless: re.Pattern[str]
    invisible: re.Pattern[str]
    same: re.Pattern[str]


@cache
def _unicode() -> _Patterns:
    runs = [(list(run), category) for category, run in groupby(range(0x80, 0x20000), _category)]

    def ranges(categories: tuple[str, ...], first: int) -> str:
        found = (run for run, category in runs if category.startswith(categories) and first <= run[0] <= first | 0xFFFF)
        return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in found)

    def one_of(*categories: str) -> str:
        # Beyond 0xFFFF a class is a list, gone through for each character that is not in it: asked where it may be.
        return rf"[{ranges(categories, 0)}]|(?=[\U00010000-\U0001ffff])[{ranges(categories, 0x10000)}]"

    mark = f"(?:{one_of('M')})"
    sign = f"[{SIGNS}‰‱]|{one_of('Sm', 'Sc', 'So')}"
    spaceless = "".join(
        f"{chr(max(first, run[0]))}-{chr(min(last, run[-1]))}"
        for first, last in _WITHOUT_SPACES
        for run, category in [*runs, ([0x20000, 0x3FFFF], "Lo")]
        if category[0] in "LN" and run[0] <= last and first <= run[-1]
    )
    return _Patterns(
        outside=rf"[^\W{spaceless}{_HANGUL}]|{mark}",
        outside_hangul=rf"[{_HANGUL}]|{mark}",
        word=re.compile(
            rf"\d+|[^\W{spaceless}]+(?:{mark}+[^\W{spaceless}]*)*|[{spaceless}]{mark}*|{mark}+|{sign}|{SIGN_HERE}"
        ),
        piece=re.compile(rf"[{spaceless}](?:(?!{mark})[^\w\s]|{mark})*|[^\s{spaceless}]+"),
        spaceless=re.compile(f"[{spaceless}]"),
        # Joiners, byte order marks and the like, variation selectors, tags.
        invisible=re.compile(f"[{ranges(('Cf',), 0)}\ufe00-\ufe0f\U000e0000-\U000e0fff]+"),
        same=re.compile(f"[{ranges(('Nd',), 0)}{''.join(_SAME)}]"),
    )


def _category(code: int) -> str:
    return unicodedata.category(chr(code))


def whole_word(word: str) -> str:
    """A pattern of `word` where it `stands_alone`."""
    before, after = (_no_word(way, end) for way, end in (("<!", word[0]), ("!", word[-1])))
    return before + re.escape(word) + after


def _no_word(way: str, end: str) -> str:
    """A lookaround, `way` of `end`, for what no word with `end` goes on in."""
    if not in_word(end) or sets_no_spaces(end):
        return ""
    return f"(?{way}{_unicode().outside_hangul if _is_hangul(end) else _unicode().outside})"


def spaceless_letter() -> str:
    """A pattern of a letter of a script that sets no spaces between words."""
    return _unicode().spaceless.pattern


def fold(text: str) -> str:
    """`text` as it is compared: what looks the same or differs in case only is the same."""
    if not text.isascii():
        text = _SUPERSCRIPT.sub(r"^\1", _unicode().invisible.sub("", text))
        text = unicodedata.normalize("NFKC", _FRACTION.sub(r" \1", text))
        text = _unicode().same.sub(lambda match: _SAME.get(match[0]) or str(unicodedata.digit(match[0])), text)
    return text.casefold()


def find_words(text: str) -> list[str]:
    """The words and signs of `text`, folded; none where it is punctuation only."""
    folded = fold(text)
    return (_ASCII_WORD if folded.isascii() else _unicode().word).findall(folded)


def count_words(text: str) -> int:
    """How long `text` is in words: what stands between spaces and, of scripts without them, each letter."""
    if text.isascii() or not _unicode().spaceless.search(text):
        return len(text.split())
    return len(_unicode().piece.findall(text))
