"""The program that tests a solution; it runs where the solution can do no harm, on the standard library alone.

    stdin      ["assert f(1) == 2", ...]: Python sources, each of which passes unless it raises
    files      solution.py
    stdout     {"passed": 0, "broken": 0, "failure": "assert f(1) == 2\\nf(1) is 1"}

The solution runs in a process of its own, which is started before the tests are read and has none of the descriptors:
it sees neither the tests nor the report, but only what a test passes to it, and the tests see what it returns as plain
data (`synthloop/_calls.py`). That one process can't read the other's memory is up to whatever confines both.

All tests see one namespace. The first failure is told; a test that is no Python at all is counted as broken too. Where
the solution's process ends before the tests, this one ends in the same way, without a report.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import os
import random
import signal
import socket
import sys
import traceback
import types
from functools import partial
from typing import Any, NoReturn

from synthloop._calls import CLASSES, OPERATIONS, SOLUTION, Peer, Remote, is_standard

MAX_VALUE, MAX_FAILURE = 300, 4000
"""Characters shown of a value, and told of a failure (chosen, not measured)."""
FOR_THE_SOLUTION = ("call", "iter", "next", "bool", "str", "repr")
"""What the solution may do with functions and iterators that tests pass to it."""
JUDGES = {"abs", "all", "any", "bool", "isinstance", "cmath", "math"}
"""Names of Python's own by which tests judge a result: with one of the solution's, any result would do."""


def main() -> None:
    ours, theirs = socket.socketpair()
    solution = os.fork()
    if solution == 0:
        run_solution(theirs)
    theirs.close()
    sys.path.pop(0)  # the folder that the solution can write to: no module comes from there
    report = os.dup(1)
    tests = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    random.seed(0)
    found = json.dumps(run_tests(tests, Peer(ours, FOR_THE_SOLUTION, partial(end_like, solution), CLASSES)))
    os.write(report, found.encode())
    os._exit(0)  # whatever the tests left behind


def end_like(solution: int) -> NoReturn:
    """End as the solution's process did."""
    os.kill(solution, signal.SIGKILL)  # where it only closed the channel; one that ends already is not changed by it
    code = os.waitstatus_to_exitcode(os.waitpid(solution, 0)[1])
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


def run_solution(channel: socket.socket) -> NoReturn:
    """Serve what the solution defines, without any descriptor but the channel's."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.closerange(3, channel.fileno())
    os.closerange(channel.fileno() + 1, 1024)
    random.seed(0)
    every = {one for one in vars(builtins).values() if isinstance(one, type)}
    Peer(channel, OPERATIONS, partial(os._exit, 0), every).serve(load)


def load() -> tuple[types.ModuleType, list[str]]:
    """The solution, and the names in it. Raises what it raises."""
    with open(SOLUTION, encoding="utf-8") as file:
        source = file.read()
    module = sys.modules["solution"] = types.ModuleType("solution")
    exec(compile(source, SOLUTION, "exec", dont_inherit=True), vars(module))
    return module, [name for name in vars(module) if not name.startswith("__")]


class Namespace(dict[str, Any]):
    """What tests see: names of their own, and what those of the solution are at that moment."""

    def __init__(self, solution: Remote, names: set[str]) -> None:
        super().__init__(__name__="solution")
        self._solution = solution
        self._names = names

    def __missing__(self, name: str) -> Any:
        if name in self._names:
            return getattr(self._solution, name)
        raise KeyError(name)


def borrowed(names: set[str], tests: list[str]) -> tuple[set[str], set[str]]:
    """The names of the solution that tests see, and those that stand for a standard module instead.

    A name that is also a builtin's or a standard module's is the solution's only where it is the function under test:
    where the tests need no other name of the solution, and it is the only such one of the solution that they use. It
    is none of `JUDGES` either, unless they use nothing else. Raises `NameError` where that doesn't tell which it is.
    """
    loaded, bound = names_in(tests)
    reserved = {name for name in loaded | names if hasattr(builtins, name) or is_standard(name)}
    used = loaded & reserved - bound
    under_test: set[str] = set()
    if used & names and not loaded - reserved - (bound - names):
        under_test = (used - JUDGES or used) & names
        if len(under_test) != 1:
            raise NameError(
                f"it isn't clear which function is tested: the code defines {', '.join(sorted(used & names))}, which "
                "Python has too. Only the function under test may have such a name"
            )
    modules = {name for name in used & names - under_test if not hasattr(builtins, name)}
    return names - reserved | under_test, modules


def names_in(tests: list[str]) -> tuple[set[str], set[str]]:
    """The names that tests read, and those that they bind."""
    loaded: set[str] = set()
    bound: set[str] = set()
    for node in (node for test in tests for node in walk(test)):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler)) and node.name:
            bound.add(node.name)
    return loaded, bound


def walk(test: str) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(test)))
    except Exception:  # noqa: BLE001 - no Python; it is told when it is run
        return []


def run_tests(tests: list[str], peer: Peer) -> dict[str, Any]:
    """The report."""
    try:
        solution, names = peer.remote(0)()
        theirs, standard = borrowed(set(names), tests)
    except BaseException as raised:  # noqa: BLE001 - whatever the solution raises is its result, an exit too
        return report_of(0, 0, described(raised))
    sys.modules["solution"] = solution
    namespace = Namespace(solution, theirs)
    namespace.update({name: importlib.import_module(name) for name in standard})
    passed = broken = 0
    failure = ""
    for test in tests:
        error = attempt(test, namespace)
        passed += error is None
        broken += isinstance(error, SyntaxError) and error.filename == "test.py"
        if error is not None and not failure:
            failure = f"{test}\n{observed(error, test, namespace) or described(error)}"
    return report_of(passed, broken, failure)


def report_of(passed: int, broken: int, failure: str) -> dict[str, Any]:
    return {"passed": passed, "broken": broken, "failure": failure[:MAX_FAILURE].encode(errors="replace").decode()}


def attempt(test: str, namespace: Namespace) -> BaseException | None:
    """Run `test`; what it raised, an exit included."""
    try:
        exec(compile(test, "test.py", "exec", dont_inherit=True), namespace)
    except BaseException as error:  # noqa: BLE001 - as above
        return error
    return None


def described(error: BaseException) -> str:
    """The exception with its notes."""
    return "".join(traceback.format_exception_only(error)).strip()


def observed(error: BaseException, test: str, namespace: Namespace) -> str:
    """What the left side of a failed `assert left == right` is, evaluated anew; nothing where that can't be told."""
    if not isinstance(error, AssertionError) or error.args:
        return ""
    try:
        statement = ast.parse(test).body[-1]
        if not isinstance(statement, ast.Assert) or not isinstance(statement.test, ast.Compare):
            return ""
        left = statement.test.left
        value = repr(eval(compile(ast.Expression(left), "test.py", "eval", dont_inherit=True), namespace))
    except BaseException:  # noqa: BLE001 - as above
        return ""
    return f"{ast.unparse(left)} is {value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + '...'}"


if __name__ == "__main__":
    main()
