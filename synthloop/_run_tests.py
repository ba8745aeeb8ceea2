"""The program that tests a solution; it runs where the solution can do no harm, on the standard library alone.

    stdin      a token that the solution can't know
    files      solution.py, and tests.json: a list of Python sources, each of which passes unless it raises
    stdout     at last, token and {"passed": 2, "broken": 0, "failure": "assert f(1) == 2\\nf(1) is 1"} on one line

All tests see one namespace. The first failure is told; a test that is no Python at all is counted as broken too.
"""

import ast
import io
import json
import random
import sys
import traceback
import types

MAX_VALUE = 300
"""Characters shown of a value (chosen, not measured)."""


def main() -> None:
    token = sys.stdin.read()
    with open("solution.py", encoding="utf-8") as file:
        solution = file.read()
    with open("tests.json", encoding="utf-8") as file:
        tests = json.load(file)
    # What the solution prints is nobody's business, and may not pass for the report.
    stdout, sys.stdout = sys.stdout, io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    random.seed(0)
    module = sys.modules["solution"] = types.ModuleType("solution")
    names = vars(module)
    error = attempt(solution, "solution.py", names)
    failures = [] if error is None else [described(error, solution)]
    passed = broken = 0
    for test in tests if error is None else ():
        error = attempt(test, "test.py", names)
        passed += error is None
        broken += isinstance(error, SyntaxError) and error.filename == "test.py"
        if error is not None and not failures:
            failures.append(f"{test}\n{observed(error, test, names) or described(error, solution)}")
    report = {"passed": passed, "broken": broken, "failure": "".join(failures)}
    stdout.write(f"\n{token}{json.dumps(report)}\n")
    stdout.flush()


def attempt(source: str, name: str, names: dict[str, object]) -> BaseException | None:
    """Run `source`; what it raised, an exit included."""
    try:
        exec(compile(source, name, "exec"), names)
    except BaseException as error:  # noqa: BLE001 - whatever the code raises is its result, an exit too
        return error
    return None


def described(error: BaseException, solution: str) -> str:
    """The exception, and the last line of the solution it passed through."""
    text = "".join(traceback.format_exception_only(error)).strip()
    places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "solution.py"]
    lines = solution.splitlines()
    if not places or not places[-1] or places[-1] > len(lines):
        return text
    return f"{text}\nin line {places[-1]} of the code: {lines[places[-1] - 1].strip()}"


def observed(error: BaseException, test: str, names: dict[str, object]) -> str:
    """What the left side of a failed `assert left == right` is, evaluated anew; nothing where that can't be told."""
    if not isinstance(error, AssertionError) or error.args:
        return ""
    try:
        statement = ast.parse(test).body[-1]
        if not isinstance(statement, ast.Assert) or not isinstance(statement.test, ast.Compare):
            return ""
        left = statement.test.left
        value = repr(eval(compile(ast.Expression(left), "test.py", "eval"), names))
    except BaseException:  # noqa: BLE001 - as above
        return ""
    return f"{ast.unparse(left)} is {value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + '...'}"


if __name__ == "__main__":
    main()
