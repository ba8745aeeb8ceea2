"""The equations in a worked solution: what tells two reasoning paths apart, and what can be checked by computing it.

    >>> equations("He pays 2 * $3 = $6, then 6+1,000=1006.")
    [Equation(left='2*3', right='6'), Equation(left='6+1000', right='1006')]

RFT (Yuan et al., 2023, arXiv:2308.01825) drops reasoning paths with a wrong calculation, and of those that share one
list of equations keeps one.

Limits: only numbers, + - * / ( ) and % are read. A side with words or units inside ("5 apples * 3 = 15") is passed
over, and so is what stands after "of", an operator or a colon; `holds` never fails what it can't read.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from synthloop.numerals import plain, ungroup

_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "$": "", "£": "", "€": ""})
_SIDE = r"[\d.(][\d.()+*/% -]*"
_CHAIN = re.compile(rf"{_SIDE}(?:= *-?{_SIDE})+")
_NOT_WHOLE = re.compile(r"(?:[-+*/^:.,'!|}\]√∛∑∏∫°\w]|\b(?:of|x) *|[-+*/^:√∛∑∏∫] +)$")
"""What, right before a chain, shows that its first side begins earlier."""
_GOES_ON = re.compile(r" *\^|[eE][-+]?\d|[!°√π∛]|['_,.:]\d")
"""What, right after a chain, shows that its last side ends later."""
_SPACED = re.compile(r"\d{1,3}(?: \d{3})+(?!\d)")
"""A number grouped by spaces, or several."""
_MIXED = re.compile(r"\d and +\d+/")
"""A mixed number in words: 1 and 1/4."""
_NUMBER = re.compile(r"-?(?:\d+(?:\.(?P<decimals>\d+))?|\.(?P<bare>\d+))(?P<percent> ?%)?")
_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class Equation(NamedTuple):
    """An expression and what it is said to equal; no spaces around signs, no currency signs, no thousands commas."""

    left: str
    right: str


def equations(text: str) -> list[Equation]:
    """The equations of `text` in order; `a = b = c` gives those of `a = b` and `b = c` that compute something."""
    text = ungroup(plain(text)).translate(_SIGNS)
    text = re.sub(r"(?<=[\d)]) *[xX] *(?=[\d(.])", "*", text)
    return [one for chain in _CHAIN.finditer(text) for one in _of_chain(text, chain)]


def holds(equation: Equation) -> bool:
    """Whether the left side equals the right one, as rounded there (`10/3=3.33` holds); True where it can't be told."""
    left, whole = _value(equation.left), _value(equation.right)
    number = _NUMBER.match(equation.right)
    if left is None or number is None:
        return True
    tolerance = 0.5 * 10.0 ** -len(number["decimals"] or number["bare"] or "") + 1e-9
    stated = float(number[0].rstrip(" %"))
    readings = [(stated, tolerance)] + ([(stated / 100, tolerance / 100)] if number["percent"] else [])
    # What follows the number may go on computing ("= 25 - 5 = 20") or be prose ("= 25 - five more").
    readings += [] if whole is None or number[0] == equation.right else [(whole, tolerance)]
    if spaced := _SPACED.match(equation.right):
        readings.append((float(spaced[0].replace(" ", "")), tolerance))
    return any(abs(left - value) <= slack for value, slack in readings)


def _of_chain(text: str, chain: re.Match[str]) -> Iterator[Equation]:
    # A space between two numbers stays: "1 1/2" is one and a half, not 11/2, and is not read.
    sides = [re.sub(r" *([-+*/()%]) *", r"\1", side).strip().rstrip("+-*/(.") for side in chain[0].split("=")]
    start = chain.start()
    if _NOT_WHOLE.search(text[:start]) or _MIXED.search(text[max(0, start - 8) : start + 8]):
        sides = sides[1:]
    if _GOES_ON.match(text, chain.end()):
        sides = sides[:-1]
    for left, right in pairwise(sides):
        if re.search(r"[\d)%][-+*/]", left) and right:
            yield Equation(left, right)


def _value(expression: str) -> float | None:
    """What `expression` comes to; None where it is no plain arithmetic."""
    try:
        tree = ast.parse(re.sub(r"(\d+(?:\.\d+)?|\.\d+)%", r"(\1/100)", expression), mode="eval")
        return _compute(tree.body)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError, MemoryError):
        return None


def _compute(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_compute(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_compute(left), _compute(right))
    raise ValueError(ast.dump(node))
