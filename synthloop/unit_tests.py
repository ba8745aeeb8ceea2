"""Code in replies, and whether it passes its unit tests: what recipes, filters and tasks about programs share.

    code_in("So:\n```python\ndef f(x): return 1\n```")       'def f(x): return 1'
    run_tests(code, ["assert f(2) == 2"], run_python)          Verdict(passed=0, total=1, kind='failed', feedback=...)

Who runs the code is an argument: `generate.sandbox.run_python`, or another that confines it. A test is Python source
that passes unless it raises; all run after the code, in its namespace, where `__name__` is not '__main__'.

A verdict goes into prompts, which are keys of the journal, so it tells nothing that may differ from run to run: no
addresses, no output of a program that was stopped, and one text whichever clock stopped it. `random` is seeded. What
reads the clock, races, or ends just about when its time is up may still be judged differently another time.

Limits: code that goes looking for it can reach into the program that tests it; mere early exits count as failures.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

PROGRAM = Path(__file__).with_name("_run_tests.py")

_FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_DEFINITION = re.compile(r"^(?:async )?def \w+\(|^class \w+[:(]", re.MULTILINE)
_ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]+(?=>)")
_PYTHON = ("python", "python3", "py")


class Ran(Protocol):
    """How a program ended: `generate.sandbox.Result`. `reason` names the limit that stopped it, if one did."""

    @property
    def exit_code(self) -> int: ...
    @property
    def stdout(self) -> str: ...
    @property
    def timed_out(self) -> bool: ...
    @property
    def reason(self) -> str: ...


class Runner(Protocol):
    """Runs `code` with `files` beside it."""

    def __call__(self, code: str, *, stdin: str, files: Mapping[str, str]) -> Ran: ...


class Verdict(NamedTuple):
    """How many of `total` tests passed; where not all did, of what `kind` that is, and what to tell whoever wrote it.

    `broken` tests are no Python, whatever the code.
    """

    passed: int
    total: int
    kind: Literal["", "failed", "timeout"] = ""
    feedback: str = ""
    broken: int = 0

    @property
    def ok(self) -> bool:
        return not self.kind


def code_in(text: str) -> str | None:
    """The Python in a reply: its blocks marked as Python, else its unmarked ones, joined; None where it has none.

    A text without any fence is code itself where a line of it starts a function or a class.
    """
    blocks = _FENCE.findall(text.replace("\r\n", "\n"))
    marked = [body for mark, body in blocks if mark.lower() in _PYTHON]
    chosen = marked or [body for mark, body in blocks if not mark]
    if not chosen and "```" not in text and _DEFINITION.search(text):
        chosen = [text]
    return "\n\n".join(one.strip("\n") for one in chosen).rstrip() or None


def fenced(code: str) -> str:
    """`code` as the block that `code_in` finds."""
    return f"```python\n{code}\n```"


def statement(problem: str, shown: Sequence[str]) -> str:
    """A problem as rows hold it, followed by the tests that the student may see.

    What to do with them belongs into `task.prompt`: words that all rows share look like contamination in each.
    """
    return "\n".join([f"{problem}\n", *shown]) if shown else problem


def run_tests(code: str, tests: Sequence[str], run: Runner) -> Verdict:
    """Whether `code` passes `tests`, as `run` runs it."""
    token = hashlib.sha256(json.dumps([code, *tests]).encode()).hexdigest()
    files = {"solution.py": code, "tests.json": json.dumps(list(tests))}
    ran = run(PROGRAM.read_text(encoding="utf-8"), stdin=token, files=files)
    _, found, rest = ran.stdout.rpartition(token)
    total = len(tests)
    if ran.timed_out:
        return Verdict(0, total, "timeout", "The code did not end in the time allowed.")
    if ran.reason:
        return Verdict(0, total, "failed", f"The code was stopped at the {ran.reason}.")
    if not found:
        return Verdict(0, total, "failed", f"The program ended with exit code {ran.exit_code} before its tests did.")
    report = json.loads(rest.partition("\n")[0])
    passed, failure = int(report["passed"]), _ADDRESS.sub("0x...", report["failure"])
    if not failure:
        return Verdict(passed, total)
    return Verdict(passed, total, "failed", f"{passed} of {total} tests pass. {failure}", int(report["broken"]))
