"""Labels: which one a reply gives as its answer, and which can't be told apart."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from synthloop.characters import stands_alone
from synthloop.errors import UserError

Place = re.Match[str]

_IS = r"(?:is|(?:must|should|would|will|has\s+to|can\s+only)\s+be)"
_NOUN = (
    r"(?:answer|option|choice|label|verdict|sentiment|category|class|classification|prediction|conclusion|decision"
    r"|final|correct\s+one|right\s+one)"
)
_BEFORE = re.compile(
    rf"(?:\b{_NOUN}(?:\s+{_IS}\b|\s*[:：]|\*+\s*[:：])|\\boxed\s*\{{"
    r"|(?:\b(?:I|we|let['’]s)(?:['’](?:d|ll|m|ve|re))?(?:\s+(?!not\b|never\b)\w+){0,2}?|^(?:(?:so|therefore|thus|hence),?)?)"
    r"\s*\b(?:choos(?:e|ing)|chose|pick(?:ed|ing)?|select(?:ed|ing)?|go(?:ing)?\s+(?:with|for))\b)[\s*:：]*",
    re.IGNORECASE,
)
"""What says that the label after it is the answer: `answer:`, `the correct option is`, `I choose`, `\\boxed{`."""

_AFTER = re.compile(
    rf"[])}}*_`'\"”’$]*\s+{_IS}\s+(?:(?:the|only|clearly|therefore|thus|indeed|best|most)\s+)*(?:correct|right|answer)\b",
    re.IGNORECASE,
)
"""What says so of the label before it: `is correct`."""

_SUPPOSED = re.compile(r"\b(?:if|whether|unless|suppose|assume)\b[^.,;:!?]*$", re.IGNORECASE)
"""What stands before a mark in the same clause where nothing is concluded: `if A is right`."""

_SENTENCE_END = re.compile(r"[.!?;](?:\s|$)|[。！？；}]")
_BULLET = re.compile(r"^\s*[-*•]\s+")
_AFTER_OPENING = re.compile(r"\s*$|[\])*.:]+(?:\s|$)")
_DECORATION = " \t$*_`'\"“”‘’([{}。.!！"
_FUNCTION_WORDS = frozenset({"a", "an", "i", "no", "the", "some", "any", "all", "both", "none", "other"})
_AFTER_A_LABEL = r"(?:is|was|because|since|as|and|or|but|with|it|this|that|there|he|she|they|we|you)\b"


class Labels:
    """Finds which of its labels a reply answers with.

    The label is the last one that was marked: by `answer:`, `the correct option is`, `I choose`, `\\boxed{}`, by `is
    right` after it, or by standing alone on a line. Where none is marked it is the one that stands alone after any
    `word:`, or that opens a line like `C)` while no other label does; else the one that the last line to name a single
    label names. A line that names several names none, nor do lines that list options (`A) ...`, `B) ...`), so listing
    them all answers nothing. What stands before `</think>` is not read. Case is ignored, but for labels of one letter
    ('a cat' does not answer A). Of labels inside one another ('spam', 'not spam') the longest counts. A label that is
    also an article, a determiner or a pronoun is none in front of its noun or verb ('A careful look', 'no idea', 'I
    think'). A mark after `if` or `whether` is none.

    Limits: negation is not understood ('it is not spam' answers spam, unless 'not spam' is a label).
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self._patterns = [(label, _pattern(label)) for label in sorted(labels, key=len, reverse=True)]

    def answer(self, text: str) -> str | None:
        """The label that `text` answers with, as it is spelled in the labels; None where it names none, or several."""
        lines = [line for line in reversed(_same_width(text).rsplit("</think>", 1)[-1].split("\n")) if line.strip()]
        opened = [label for label, _ in filter(None, map(self._opening, lines))]
        others = [line for line in lines if self._opening(line) is None]
        ways = (
            map(self._marked, lines),
            (self._alone(_after_colon(line)) for line in lines),
            opened if len(set(opened)) == 1 else [],
            (self._only(_after_colon(line)) for line in others),
            map(self._only, others),
            [label for label in opened[:1] if opened.count(label) > 1],
        )
        return next((label for way in ways for label in way if label is not None), None)

    def _found(self, text: str) -> Iterator[tuple[Place, str]]:
        """(place, label) of the labels in `text`, longest first; a place inside a longer label's is left out."""
        places: list[Place] = []
        for label, pattern in self._patterns:
            for match in pattern.finditer(text):
                inside = any(other.start() <= match.start() and match.end() <= other.end() for other in places)
                if match[0] and not inside and stands_alone(text, *match.span()):
                    places.append(match)
                    yield match, label

    def _only(self, text: str) -> str | None:
        """The label that `text` names, where it names no other."""
        named = {label for _, label in self._found(text)}
        return named.pop() if len(named) == 1 else None

    def _opening(self, line: str) -> tuple[str, str] | None:
        """The label that `line` opens with, and what stands after it."""
        bare = _BULLET.sub("", line).strip(_DECORATION)
        place, label = next((one for one in self._found(bare) if one[0].start() == 0), (None, ""))
        if place is None or not _AFTER_OPENING.match(rest := bare[place.end() :]):
            return None
        return label, rest.strip("])*.: ")

    def _alone(self, line: str) -> str | None:
        opened = self._opening(line)
        return opened[0] if opened and not opened[1] else None

    def _marked(self, line: str) -> str | None:
        """The label that `line` marks last, or consists of."""
        found = [
            (mark.start(), self._only(_SENTENCE_END.split(line[mark.end() :], maxsplit=1)[0]))
            for mark in _BEFORE.finditer(line)
        ]
        found += [(place.start(), label) for place, label in self._found(line) if _AFTER.match(line, place.end())]
        said = [one for one in found if one[1] is not None and not _SUPPOSED.search(line[: one[0]])]
        return max(said)[1] if said else self._alone(line)


def _after_colon(line: str) -> str:
    return re.split("[:：]", line)[-1]


def _same_width(text: str) -> str:
    """`text` with its letters and digits in NFKC; punctuation stays, as it marks where a sentence ends."""
    composed = unicodedata.normalize("NFC", text)
    return re.sub(r"\w+", lambda match: unicodedata.normalize("NFKC", match[0]), composed)


def _pattern(label: str) -> re.Pattern[str]:
    plain = _same_width(label)
    written = re.escape(plain) if len(plain) == 1 else f"(?i:{re.escape(plain)})"
    in_prose = rf"(?!['’]|\s+(?!{_AFTER_A_LABEL})[a-z])" if label.casefold() in _FUNCTION_WORDS else ""
    return re.compile(written + in_prose)


def refuse_alike(labels: Mapping[str, int], remedy: str) -> None:
    """Raise `UserError` where labels differ in case, width, spaces or characters that can't be seen only.

    `choice` would take one for the other, so that an answer with one of them could never be right. `labels` are with
    the number of their rows; `{joined}` in `remedy` becomes a JSON object of the one to the other.
    """
    if pairs := alike(labels):
        told = ", ".join(f"{one!r} ({labels[one]}) and {other!r} ({labels[other]})" for one, other in pairs)
        joined = json.dumps({other: one for one, other in pairs})
        raise UserError(
            f"Labels differ in case, width or spaces only, which no reply is told apart by (with their rows): {told}. "
            + remedy.replace("{joined}", joined)
        )


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """(first, other) of `names` that look the same but for case, width, spaces and invisible characters."""
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        plain = unicodedata.normalize("NFKC", name).casefold()
        key = " ".join("".join(one for one in plain if unicodedata.category(one) != "Cf").split())
        if first.setdefault(key, name) != name:
            pairs.append((first[key], name))
    return pairs
