"""Code in replies, and whether it passes its unit tests: what recipes, filters and tasks about programs share.

    code_in("So:\n```python\ndef f(x): return 1\n```")       'def f(x): return 1'
    run_tests(code, ["assert f(2) == 2"], run_python)          Verdict(passed=0, total=1, kind='failed', feedback=...)

Who runs the code is an argument: `generate.sandbox.run_python`, or another that confines it. A test is Python source
that passes unless it raises. All tests see one namespace, in which the code's names are; `__name__` is not '__main__'.

Tests and code run in two processes that share nothing (`synthloop/_run_tests.py`). What the code returns, raises and
changes in its arguments reaches the tests as plain data; code has no say in whether that equals what is expected, and
sees neither tests nor verdict. Therefore
  - an object of a class of the code's own can be made, called, iterated over, passed back, and asked for its attributes
    and items, but equals only itself: test its fields (an instance of a subclass of a built-in class, such as a
    namedtuple or a Counter, is that built-in class's);
  - objects of the tests' own classes reach the code as something that it can call or iterate over;
  - the code does not see names that tests define, nor do tests see what it prints;
  - a name that Python has too (`sum`, `math`) is Python's, unless it is the only function under test. Where that can't
    be told, no test passes.

A verdict goes into prompts, which are keys of the journal, so it tells nothing that may differ from run to run: no
addresses, no output of a program that was stopped, and one text whichever clock stopped it. `random` is seeded. What
reads the clock, races, or ends just about when its time is up may still be judged differently another time.

Limits: tests know the code by its answers alone, so it passes with answers learnt by heart, and where tests leave the
judging to it: to another function or a method of its own, to whether an object of its own is true, or to whether
something is `in` what it returns, which may be an endless generator (compare with a list instead).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from synthloop.storable import storable

PROGRAM = Path(__file__).with_name("_run_tests.py")
CALLS = Path(__file__).with_name("_calls.py")

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

    `broken` tests are no Python, whatever the code. No code passes where there are no tests.
    """

    passed: int
    total: int
    kind: Literal["", "failed", "timeout"] = ""
    feedback: str = ""
    broken: int = 0

    @property
    def ok(self) -> bool:
        return not self.kind and 0 < self.passed == self.total


class _Report(BaseModel):
    """What `PROGRAM` writes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    passed: NonNegativeInt
    broken: NonNegativeInt
    failure: str


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
    """Whether `code` passes `tests`, as `run` runs it. What the code does is its own failure, never an exception."""
    total = len(tests)
    if not tests:
        return Verdict(0, 0, "failed", "There are no tests.")
    files = {"solution.py": code, "synthloop/_calls.py": CALLS.read_text(encoding="utf-8")}
    ran = run(PROGRAM.read_text(encoding="utf-8"), stdin=json.dumps(list(tests)), files=files)
    if ran.timed_out:
        return Verdict(0, total, "timeout", "The code did not end in the time allowed.")
    if ran.reason:
        return Verdict(0, total, "failed", f"The code was stopped at the {ran.reason}.")
    try:
        report = _Report.model_validate_json(ran.stdout)
    except ValidationError:
        return Verdict(0, total, "failed", f"The program ended with exit code {ran.exit_code} before its tests did.")
    if report.passed == total and not report.failure:
        return Verdict(total, total)
    passed, broken = min(report.passed, total), min(report.broken, total)
    failure = _ADDRESS.sub("0x...", storable(report.failure))
    return Verdict(passed, total, "failed", f"{passed} of {total} tests pass. {failure}", broken)
