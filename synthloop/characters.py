"""What is a letter, in every script: marks belong to their letters, and some scripts set no spaces between words."""

from __future__ import annotations

import unicodedata

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


def in_word(character: str) -> bool:
    """Whether `character` is part of a word: a letter, a mark on one (vowel signs, accents), a digit or '_'."""
    return unicodedata.category(character)[0] in "LMN" or character == "_"


def sets_no_spaces(character: str) -> bool:
    """Whether `character` is of a script whose words stand side by side, so that any place may be a word's border."""
    return any(first <= ord(character) <= last for first, last in _WITHOUT_SPACES)


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether `text[start:end]` is cut out of no word: neither end goes on in a letter of a script with spaces."""
    return _is_border(text[start - 1 : start], text[start]) and _is_border(text[end : end + 1], text[end - 1])


def _is_border(outside: str, inside: str) -> bool:
    if not outside or not in_word(outside) or not in_word(inside):
        return True
    return sets_no_spaces(inside) or (sets_no_spaces(outside) and unicodedata.category(outside)[0] != "M")
