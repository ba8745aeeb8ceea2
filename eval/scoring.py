"""Scorers: what is the answer in this reply, and is it the reference?

| name    | scorer                   | the reply is right when                                               |
|---------|--------------------------|-----------------------------------------------------------------------|
| numeric | `numeric`                | its final number equals the reference's                               |
| exact   | `exact`                  | it is the reference, but for spaces around and between words          |
| choice  | `choice(labels)`         | the label it marks, or the one it names, is the reference             |
| json    | `json_equal`             | it holds the reference's JSON value                                   |
| regex   | `regex(pattern)`         | what the pattern captures is the reference                            |
| judge   | `eval/judging.py`        | a model says so; where none is asked (votes, filters), as `exact`     |

A scorer takes (reference, text) and returns a `Score` of 0 or 1. `parsed` is the answer in canonical form, so that
equal answers are equal strings (votes are counted by it); it is None where the text holds none, and it is set whether
or not there is a reference. Without a reference nothing is correct.
"""

from __future__ import annotations

import contextlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

from eval.labels import Labels
from synthloop import numerals
from synthloop.characters import find_words, sets_no_spaces
from synthloop.errors import UserError
from synthloop.records import Score
from synthloop.storable import TooDeep, loads, raw_decode

Scorer = Callable[[str | None, str], Score]

_MARK = "####"


def numeric(reference: str | None, text: str) -> Score:
    """Whether the final number of `text` is the reference's: the scorer of GSM8K.

    The final number is the first one on the line after the last `####`, else the last number of the text
    (lm-evaluation-harness's 'flexible-extract'). What is a number, and what is none, says `synthloop/numerals.py`:
    `$1,000.`, `1 000`, `1e3` and `1000.00` are all '1000', `1/2` is '0.5', and `3,5` or `12:30` are no answer.

    Limits: units are ignored (`5%` equals `5`, `5 m` equals `5 km`). Spelled-out numbers are not read.
    """
    parsed = final_number(text)
    return _compare(parsed, None if reference is None else final_number(reference), "no number")


def final_number(text: str) -> str | None:
    """The final number of `text` in canonical form (see `numeric`), or None."""
    if _MARK in text and (found := numerals.numbers(_marked_line(text))):
        return found[0]
    return numerals.final_number(text)


def only_number(text: str) -> str | None:
    """The number that a reference is from end to end, or after its last `####`; None where that is anything else."""
    return numerals.only_number(_marked_line(text) if _MARK in text else text)


def stated_number(output: str) -> str | None:
    """The answer of a worked solution: what is after its last `####`, else its final number.

    None where what should be the answer is something else: `7 x^2 + C`, `3 or 4`, `#### 2 sin t`. That is the line
    after the mark, or the last line of an output that is no sentence; after its last `=` or `:`.
    """
    if _MARK in output:
        return _number_and_unit(_marked_line(output))
    if len([word for word in find_words(output) if _is_prose(word)]) > 1:
        return final_number(output)
    line = output.strip().rsplit("\n", 1)[-1]
    return None if _SEVERAL.search(line) else _number_and_unit(re.split("[=:：]", line)[-1])


_SEVERAL = re.compile(r"\b[a-z]\s*=[^=]*(?:[,;]|\b(?:or|and)\b)\s*[a-z]\s*=", re.IGNORECASE)
"""Two variables, or two values of one."""


def _marked_line(text: str) -> str:
    return text.rsplit(_MARK, 1)[1].strip().split("\n", 1)[0]


def _number_and_unit(line: str) -> str | None:
    if (only := numerals.only_number(line)) is not None:
        return only
    number, around = numerals.single_number(line)
    return number if all(map(_is_prose, find_words(around))) else None


_MATHS = re.compile("sin|cos|tan|cot|sec|csc|ln|log|exp|sqrt|[dt]?frac|pi|hundred|thousand|[mb]illion|dozen|or")


def _is_prose(word: str) -> bool:
    """Whether `word` is one of a sentence, or a unit, and no variable, sign or function."""
    return word[0].isalpha() and not _MATHS.fullmatch(word) and (len(word) > 1 or sets_no_spaces(word))


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
    """A scorer for replies that name one of `labels`; which one counts, says `eval.labels.Labels`."""
    known = Labels(labels)

    def score(reference: str | None, text: str) -> Score:
        return _compare(known.answer(text), reference, "names no label, or several")

    return score


def json_equal(reference: str | None, text: str) -> Score:
    """Whether the JSON value in `text` equals the reference's; the order of keys does not matter, that of lists does.

    The value is the whole text, else that of the last fenced block that is one, else the last top-level object in the
    text, else the last top-level list (a `[1]` in prose is a footnote where there is an object). A value inside one
    that is broken or cut off is none. `1` equals `1.0`; `true` does not equal `1`. `NaN` and `Infinity` are not JSON.

    Limits: a bare string or number inside prose is not found, nor anything in a text nested too deep for the parser.
    """
    parsed = _canonical_json(text)
    return _compare(parsed, None if reference is None else _canonical_json(reference), "no JSON value")


_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)


def _canonical_json(text: str) -> str | None:
    try:
        for whole in (text, *reversed(_FENCE.findall(text))):
            with contextlib.suppress(ValueError):
                return _written(loads(whole))
        values = list(_top_level_values(text))
    except TooDeep:
        return None
    objects = [value for value in values if isinstance(value, dict)]
    return _written((objects or values)[-1]) if values else None


def _top_level_values(text: str) -> Iterator[Any]:
    """The objects and lists in prose, in order; what opens and is broken or cut off is passed over whole.

    Raises `TooDeep`.
    """
    position = 0
    while opened := re.compile(r"[\[{]").search(text, position):
        try:
            value, position = raw_decode(text, opened.start())
            yield value
        except TooDeep:
            raise
        except ValueError:
            position = _closing(text, opened.start())


_BRACKET_OR_STRING = re.compile(r"""[\[\]{}]|"(?:[^"\\\n]|\\.)*\"""")


def _closing(text: str, start: int) -> int:
    """Where what opens at `start` is closed (brackets in strings left out); the end of the text where it is not."""
    depth = 0
    for match in _BRACKET_OR_STRING.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.end()
    return len(text)


def _written(value: Any) -> str:
    return unicodedata.normalize("NFC", json.dumps(_whole_floats(value), sort_keys=True, ensure_ascii=False))


def _whole_floats(value: Any) -> Any:
    """`value` with floats that are whole numbers as integers."""
    if isinstance(value, dict):
        return {key: _whole_floats(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole_floats(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@cache
def regex(pattern: str) -> Scorer:
    """A scorer that compares what `pattern` finds as `exact` does: the first group that matched, else all of it.

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
        last = matches[-1] if matches else None
        captured = next((group for group in last.groups() if group is not None), last[0]) if last else ""
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
