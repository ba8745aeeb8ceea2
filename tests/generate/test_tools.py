"""Tools: their schemas, what guides a call, and calls in the real sandbox."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from generate.rehearsal import instance
from generate.sandbox import Limits
from generate.tools import BUILT_IN, Tool, guide, invoke, misfit, named
from synthloop.errors import UserError
from tests.generate.sandboxed import skip_unless_confined

CALCULATOR, PYTHON = BUILT_IN["calculator"], BUILT_IN["python"]
TIGHT = Limits(wall_s=4, cpu_s=1, memory_mb=128)


def tool(parameters: Any = None, **changes: Any) -> Tool:
    values: dict[str, Any] = {
        "name": "celsius",
        "description": "Fahrenheit to Celsius.",
        "parameters": parameters or {"type": "object", "properties": {"f": {"type": "number"}}, "required": ["f"]},
        "code": 'import json, sys\nprint(round((json.load(sys.stdin)["f"] - 32) / 1.8, 2))',
    }
    return Tool(**{**values, **changes})


def called(one: Tool, max_chars: int = 1000, **arguments: Any) -> str:
    skip_unless_confined()
    return invoke(one, arguments, TIGHT, max_chars)


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("2 * (3 + 4)", "14"),
        ("0.1 + 0.2", "0.3"),
        ("7 / 2", "3.5"),
        ("8 / 2", "4"),
        ("2 ** 70", "1180591620717411303424"),
        ("1 / 0", "Error: ZeroDivisionError: division by zero"),
        ("9 ** 9 ** 9 ** 9", "Error: it did not end in the time allowed."),
    ],
)
def test_the_calculator(expression: str, result: str) -> None:
    assert misfit(CALCULATOR, {"expression": expression}) is None
    assert called(CALCULATOR, expression=expression) == result


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("print(sum(range(5)))", "10"),
        ("if __name__ == '__main__':\n    def f(n): return n and f(n - 1)\n    print(f(9))", "0"),
        ("x = 1", "(it printed nothing)"),
        ("print('partial')\n1 / 0", "Error: ZeroDivisionError: division by zero"),
        ("print(", "Error: SyntaxError: '(' was never closed"),
        ("raise SystemExit(3)", "Error: exit code 3"),
        ("print(object())", "<object object at 0x...>"),
        ("print('partial', flush=True)\nwhile True: pass", "Error: it did not end in the time allowed."),
        ("import os\nwhile True: os.write(1, b'x' * 9999)", "Error: it was stopped at the output limit of 64 KB."),
    ],
)
def test_python(code: str, result: str) -> None:
    assert called(PYTHON, code=code) == result


def test_python_is_told_the_same_each_time() -> None:
    code = "import random\nprint(random.random(), {'a', 'b', 'c'})"
    assert called(PYTHON, code=code) == called(PYTHON, code=code)


def test_long_results_are_cut() -> None:
    assert called(PYTHON, 5, code="print('x' * 9)") == "xxxxx\n(4 more characters)"


def test_a_tool_of_ones_own() -> None:
    assert called(tool(), f=212) == "100.0"
    assert json.loads(tool().signature)["function"]["name"] == "celsius"


@pytest.mark.parametrize(
    ("one", "arguments", "told"),
    [
        (CALCULATOR, {"expression": "2 + 3"}, None),
        (CALCULATOR, {"expression": "__import__('os')"}, "arguments.expression: "),
        (CALCULATOR, {}, "arguments: 'expression' is a required property"),
        (tool(), {"f": "212"}, "arguments.f: '212' is not of type 'number'"),
        (tool(), {"f": 212}, None),
    ],
)
def test_arguments_are_checked_against_the_schema(one: Tool, arguments: dict[str, Any], told: str | None) -> None:
    found = misfit(one, arguments)
    assert (found is None) if told is None else str(found).startswith(told)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"parameters": {"type": "string"}}, "expected {type: object"),
        ({"parameters": {"type": "object", "properties": {"f": {"type": "nmber"}}}}, "no JSON schema"),
        ({"parameters": {"type": "object", "properties": {"f": {}}}}, "each value needs one `type`"),
        ({"parameters": {"type": "object", "properties": {"f": {"type": ["number", "null"]}}}}, "needs one `type`"),
        ({"parameters": {"type": "object", "properties": {"f": {"$ref": "#/$defs/x"}}}}, "write the schema out"),
        ({"code": "print(1"}, "code of celsius, line 1"),
        ({"name": "no tool"}, "name"),
    ],
)
def test_a_bad_tool_is_told_before_anything_runs(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        tool(**changes)
    assert told in str(error.value)


def test_built_in_tools_go_by_their_names() -> None:
    assert named("python") is PYTHON
    assert named({"name": "mine"}) == {"name": "mine"}
    with pytest.raises(ValueError, match="Did you mean 'calculator'"):
        named("calculater")


SCHEMA = {
    "type": "object",
    "properties": {
        "unit": {"enum": ["C", "F"]},
        "code": {"type": "string", "pattern": "^a+$"},
        "short": {"type": "string", "maxLength": 50},
        "days": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 7, "multipleOf": 2}},
        "more": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"type": {"type": "boolean"}}}]},
    },
    "required": ["unit"],
}


def test_what_guides_is_looser_and_bounded() -> None:
    loose = guide(SCHEMA)
    Draft202012Validator.check_schema(loose)
    assert loose["properties"]["code"] == loose["properties"]["short"] == {"type": "string"}, "no bound on a text"
    assert loose["properties"]["days"] == {
        "maxItems": 10,
        "type": "array",
        "items": {"type": "integer", "minimum": 1, "maximum": 7},
    }
    assert loose["required"] == ["unit"]
    for value in range(5):
        assert not list(Draft202012Validator(loose).iter_errors(instance(loose, value)))


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(UserError, match="pip install jsonschema"):
        misfit(CALCULATOR, {"expression": "1"})
