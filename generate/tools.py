"""Tools that a model may call: what each takes, as a JSON schema, and what comes of a call, as one text.

    tools:
      - calculator                                   built in: one expression
      - python                                       built in: a program, of which it sees what it prints
      - name: celsius                                the user's own: a program, run with the arguments as JSON on stdin
        description: Degrees Fahrenheit in degrees Celsius.
        parameters: {type: object, properties: {fahrenheit: {type: number}}, required: [fahrenheit]}
        code: |
          import json, sys
          print(round((json.load(sys.stdin)["fahrenheit"] - 32) / 1.8, 2))

All run in the sandbox (`generate/sandbox.py`), so a tool reaches no network and no files. Nothing is remembered from
call to call. Observations go into prompts, which are keys of the journal: of a program that failed only the error is
told, of one that was stopped nothing of what it wrote, and `random` is seeded for `python`. What else varies (clocks,
true randomness) makes a resumed run ask some things anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from generate.rehearsal import instance
from generate.sandbox import Limits, run_python
from synthloop.errors import UserError, did_you_mean

MAX_ITEMS = 10
"""Of a list in a guided reply where a tool's schema has no bound: small models would not end (chosen, not measured)."""

_GUIDED = ("type", "enum", "const", "required", "minimum", "maximum", "minItems", "maxItems")
"""Keywords that guided decoding holds everywhere; what the others say is checked when the call is made."""

_ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]+(?=>)")


class Tool(BaseModel):
    """A tool. `parameters` is the JSON schema (draft 2020-12) of its arguments; `code` reads them on stdin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z_]\w{0,63}$")
    description: str = Field(min_length=1)
    parameters: dict[str, Any]
    code: str = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_called(self) -> Tool:
        if flaw := _flaw(self.parameters):
            raise ValueError(f"parameters of {self.name}: {flaw}")
        try:
            compile(self.code, f"{self.name}.code", "exec")
        except SyntaxError as error:
            raise ValueError(f"code of {self.name}, line {error.lineno}: {error.msg}") from error
        return self

    @property
    def signature(self) -> str:
        """The tool as models are told of it: the form of OpenAI's function calling, one line of JSON."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return json.dumps({"type": "function", "function": function}, ensure_ascii=False)


def named(tool: object) -> object:
    """A built-in tool for its name; anything else as it is. Raises `ValueError` for a name that is none."""
    if isinstance(tool, str) and tool not in BUILT_IN:
        raise ValueError(f"no built-in tool {tool!r}. {did_you_mean(tool, BUILT_IN)}")
    return BUILT_IN[tool] if isinstance(tool, str) else tool


def misfit(tool: Tool, arguments: Mapping[str, Any]) -> str | None:
    """Why `arguments` do not fit the tool's schema, and None where they do.

    Raises:
        UserError: the package `jsonschema` is not installed.
    """
    errors = sorted(
        _validator_class()(tool.parameters).iter_errors(arguments), key=lambda one: list(map(str, one.path))
    )
    if not errors:
        return None
    where = ".".join(["arguments", *map(str, errors[0].path)])
    return f"{where}: {errors[0].message[:300]}"


def invoke(tool: Tool, arguments: Mapping[str, Any], limits: Limits, max_chars: int) -> str:
    """What the model sees of the call: what the tool printed, or how it failed."""
    ran = run_python(tool.code, stdin=json.dumps(arguments), limits=limits)
    if ran.timed_out:
        return "Error: it did not end in the time allowed."
    if ran.reason:
        return f"Error: it was stopped at the {ran.reason}."
    if ran.exit_code:
        error = (ran.stderr.strip().splitlines() or [f"exit code {ran.exit_code}"])[-1]
        return f"Error: {_stable(error)[:max_chars]}"
    text = _stable(ran.stdout.strip())
    if len(text) > max_chars:
        return f"{text[:max_chars]}\n({len(text) - max_chars} more characters)"
    return text or "(it printed nothing)"


def guide(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A looser copy of `schema` that any backend of guided decoding takes, in which every list is bounded."""
    loose: dict[str, Any] = {key: value for key, value in schema.items() if key in _GUIDED}
    if "properties" in schema:
        loose["properties"] = {name: guide(one) for name, one in schema["properties"].items()}
        loose["additionalProperties"] = False
    if "items" in schema:
        loose["items"] = guide(schema["items"])
    if "anyOf" in schema:
        loose["anyOf"] = [guide(one) for one in schema["anyOf"]]
    return {"maxItems": MAX_ITEMS, **loose} if schema.get("type") == "array" else loose


def _stable(text: str) -> str:
    """`text` without the addresses of objects, which differ between machines."""
    return _ADDRESS.sub("0x...", text)


def _flaw(parameters: dict[str, Any]) -> str | None:
    """What makes a schema useless for a tool; None where there is nothing."""
    if parameters.get("type") != "object" or not isinstance(parameters.get("properties"), dict):
        return "expected {type: object, properties: {...}}"
    if '"$ref"' in json.dumps(parameters):
        return "`$ref` is not followed; write the schema out"
    if told := _invalid(parameters):
        return told
    try:
        instance(guide(parameters), 0)
    except (KeyError, TypeError, AttributeError):
        return (
            "each value needs one `type` (a name, not a list), `enum`, `const` or `anyOf`; an object also needs "
            "`properties`, and an array `items`"
        )
    return None


def _invalid(schema: dict[str, Any]) -> str | None:
    """What makes `schema` no JSON schema at all."""
    validator = _validator_class()
    error = next(validator(validator.META_SCHEMA).iter_errors(schema), None)
    return None if error is None else f"no JSON schema: {error.message}"


def _validator_class() -> Any:
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise UserError("Tools need the package jsonschema: pip install jsonschema==4.26.0") from error
    return Draft202012Validator


_EXPRESSION = {"type": "string", "maxLength": 200, "pattern": r"^[0-9+\-*/(). ]+$"}
BUILT_IN: dict[str, Tool] = {
    "calculator": Tool(
        name="calculator",
        description="Works out one arithmetic expression of numbers, + - * / ** and parentheses.",
        parameters={"type": "object", "properties": {"expression": _EXPRESSION}, "required": ["expression"]},
        code="import json, sys\nvalue = eval(json.load(sys.stdin)['expression'])\n"
        "print(format(value, '.12g') if isinstance(value, float) else value)",
    ),
    "python": Tool(
        name="python",
        description="Runs a Python 3 program with the standard library and shows what it prints. It has no network, "
        "and nothing is kept for the next call.",
        parameters={"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
        code="import json, random, sys\nrandom.seed(0)\ncode = json.load(sys.stdin)['code']\n"
        "exec(compile(code, 'program.py', 'exec'), {'__name__': '__main__'})",
    ),
}
