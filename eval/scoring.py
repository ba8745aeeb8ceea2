"""Scorers: what is the answer in this reply, and is it the reference?

| name    | scorer                   | the reply is right when                                               |
|---------|--------------------------|-----------------------------------------------------------------------|
| numeric | `numeric`                | its final number equals the reference's                               |
| exact   | `exact`                  | it is the reference, but for spaces around and between words          |
| choice  | `choice(labels)`         | it names one label, the reference                                     |
| json    | `json_equal`             | it holds the reference's JSON value                                   |
| regex   | `regex(pattern)`         | what the pattern captures is the reference                            |
| judge   | `eval/judging.py`        | a model says so; where none is asked (votes, filters), as `exact`     |

A scorer takes (reference, text) and returns a `Score` of 0 or 1. `parsed` is the answer in canonical form, so that
equal answers are equal strings (votes are counted by it); it is None where the text holds none, and it is set whether
or not there is a reference. Without a reference nothing is correct.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from synthloop.errors import UserError
from synthloop.records import Score
from synthloop.storable import TooDeep, raw_decode

Scorer = Callable[[str | None, str], Score]

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
# A minus sign belongs to the number unless it follows a word, a number or a bracket, where it subtracts or hyphenates.
_SIGNED = re.compile(rf"(?P<sign>(?<![\w.)\]])(?:-\s?\$?|\$-))?\$?(?P<number>{_NUMBER})(?P<fraction>/\d+)?")
_MARK = "####"


def numeric(reference: str | None, text: str) -> Score:
    """Whether the final number of `text` is the reference's: the scorer of GSM8K.

    The final number is the first one on the line after the last `####`, else the last number of the text
    (lm-evaluation-harness's 'flexible-extract'). Thousands commas, `$`, `%`, a trailing full stop and trailing zeros
    make no difference: `$1,000.`, `1000` and `1000.00` are all '1000'.

    Limits: units are ignored (`5%` equals `5`). `2e3` is not read as 2000. A fraction is kept as written after `####`
    ('1/2' is not '0.5'); elsewhere it is two numbers. Spelled-out numbers are not read.
    """
    parsed = final_number(text)
    return _compare(parsed, None if reference is None else final_number(reference), "no number")


def final_number(text: str) -> str | None:
    """The final number of `text` in canonical form (see `numeric`), or None."""
    text = text.replace("\u2212", "-").replace("\\$", "$")
    if _MARK in text:
        line = text.rsplit(_MARK, 1)[1].strip().split("\n", 1)[0]
        if found := _SIGNED.search(line):
            return _canonical(found) + (found["fraction"] or "")
    numbers = list(_SIGNED.finditer(text))
    if not numbers:
        return None
    last = numbers[-1]
    return last["fraction"][1:].lstrip("0") or "0" if last["fraction"] else _canonical(last)


def _canonical(found: re.Match[str]) -> str:
    whole, _, decimals = found["number"].replace(",", "").partition(".")
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    number = f"{whole}.{decimals}" if decimals else whole
    return f"-{number}" if found["sign"] and number != "0" else number


def exact(reference: str | None, text: str, *, ignore_case: bool = False) -> Score:
    """Whether `text` is the reference, with runs of whitespace as one space and Unicode in its composed form (NFC).

    Limits: a right answer inside a sentence is wrong; punctuation counts.
    """
    parsed = _normalise(text, ignore_case)
    return _compare(parsed, None if reference is None else _normalise(reference, ignore_case), "empty reply")


def _normalise(text: str, ignore_case: bool) -> str | None:
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return (text.casefold() if ignore_case else text) or None


@cache
def choice(labels: tuple[str, ...]) -> Scorer:
    """A scorer for replies that name one of `labels`.

    The label is the one named by the first line, else by the whole text; a part that names several names none, so
    listing them all scores nothing. Case is ignored, but for labels of one letter ('a cat' does not answer A). Of
    labels inside one another ('spam', 'not spam') the longest counts.

    Limits: negation is not understood ('it is not spam' answers spam, unless 'not spam' is a label).
    """
    # Longest first: the alternation takes the first label that fits.
    ordered = sorted(labels, key=len, reverse=True)
    patterns = [f"({re.escape(label)})" if len(label) == 1 else f"((?i:{re.escape(label)}))" for label in ordered]
    finder = re.compile(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)")

    def named(text: str) -> str | None:
        found = {ordered[(match.lastindex or 0) - 1] for match in finder.finditer(text)}
        return found.pop() if len(found) == 1 else None

    def score(reference: str | None, text: str) -> Score:
        parsed = named(text.strip().split("\n", 1)[0]) or named(text)
        return _compare(parsed, reference, "names no label, or several")

    return score


def json_equal(reference: str | None, text: str) -> Score:
    """Whether the JSON value in `text` equals the reference's; the order of keys does not matter, that of lists does.

    The value is the whole text, else the first object or list that parses in it (a fenced block, for instance).
    `1` equals `1.0`; `true` does not equal `1`. `NaN` and `Infinity` are not JSON.

    Limits: a bare string or number inside prose is not found, nor anything in a text nested too deep for the parser.
    """
    parsed = _canonical_json(text)
    return _compare(parsed, None if reference is None else _canonical_json(reference), "no JSON value")


def _canonical_json(text: str) -> str | None:
    text = text.strip()
    starts = (match.start() for match in re.finditer(r"[\[{]", text))
    for start in (None, *starts):
        try:
            value, end = raw_decode(text, start or 0)
        except TooDeep:
            return None
        except ValueError:
            continue
        if start is not None or end == len(text):
            return json.dumps(_whole_floats(value), sort_keys=True, ensure_ascii=False)
    return None


def _whole_floats(value: Any) -> Any:
    """`value` with floats that are whole numbers as integers."""
    if isinstance(value, dict):
        return {key: _whole_floats(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole_floats(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@cache
def regex(pattern: str) -> Scorer:
    """A scorer that compares what `pattern` finds (its first group, else the whole match) as `exact` does.

    The last match counts: an answer stands at the end. `pattern` is Python's `re` with MULTILINE.

    Limits: a pattern with nested repeats can take exponential time on a degenerate reply.

    Raises:
        UserError: the pattern does not compile.
    """
    try:
        finder = re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise UserError(f"The scorer's pattern {pattern!r} is not a regular expression: {error}.") from error

    def score(reference: str | None, text: str) -> Score:
        matches = list(finder.finditer(text))
        captured = (matches[-1][1 if finder.groups else 0] or "") if matches else ""
        parsed = _normalise(captured, ignore_case=False)
        expected = None if reference is None else _normalise(reference, ignore_case=False)
        return _compare(parsed, expected, "the pattern finds nothing")

    return score


def _compare(parsed: str | None, reference: str | None, missing: str) -> Score:
    correct = parsed is not None and parsed == reference
    return Score(value=float(correct), correct=correct, parsed=parsed, reason=missing if parsed is None else None)


SCORERS = ("numeric", "exact", "choice", "json", "regex", "judge")


def named_scorer(
    name: str, *, labels: Sequence[str] = (), pattern: str | None = None, ignore_case: bool = False
) -> Scorer:
    """The scorer a config names. `choice` needs `labels`, `regex` needs `pattern`; `ignore_case` is for `exact`.

    Raises:
        UserError: the scorer is unknown, or what it needs is not given.
    """
    if name == "choice":
        if not labels:
            raise UserError("scorer 'choice' needs `labels`, the list of possible answers.")
        return choice(tuple(labels))
    if name == "regex":
        if pattern is None:
            raise UserError("scorer 'regex' needs `pattern`, whose first group is the answer.")
        return regex(pattern)
    plain: dict[str, Scorer] = {
        "numeric": numeric,
        "exact": partial(exact, ignore_case=ignore_case),
        "json": json_equal,
        "judge": exact,
    }
    if name not in plain:
        raise UserError(f"Unknown scorer '{name}'. Known: {', '.join(SCORERS)}.")
    return plain[name]
