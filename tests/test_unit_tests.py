"""Code in replies, and verdicts of the real sandbox on it."""

from __future__ import annotations

from functools import partial

import pytest

from generate.sandbox import Limits, run_python
from synthloop.unit_tests import Verdict, code_in, fenced, run_tests, statement
from tests.generate.sandboxed import skip_unless_confined

DOUBLE = "def double(x):\n    return 2 * x"
TESTS = ["assert double(2) == 4", "assert double(0) == 0"]


def verdict(code: str, tests: list[str], wall_s: float = 8) -> Verdict:
    skip_unless_confined()
    return run_tests(code, tests, partial(run_python, limits=Limits(wall_s=wall_s, cpu_s=4, memory_mb=256)))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"Here:\n```python\n{DOUBLE}\n```\nIt doubles.", DOUBLE),
        (f"```py\r\n{DOUBLE}\r\n```", DOUBLE),
        ("```\nx = 1\n```", "x = 1"),
        ("```python\nx = 1\n```\nprints\n```\n1\n```", "x = 1"),
        ("```python\nx = 1\n```\nthen\n```python\ny = 2\n```", "x = 1\n\ny = 2"),
        ("  ```python\n  x = 1\n  ```", "  x = 1"),
        (DOUBLE, DOUBLE),
        (f"import math\n{DOUBLE}\n", f"import math\n{DOUBLE}"),
        ("```python\n\n```", None),
        ("```bash\nls\n```", None),
        (f"```python\n{DOUBLE}", None),
        ("def is a keyword of Python", None),
        ("#### 5", None),
        ("", None),
    ],
)
def test_code_in_a_reply(text: str, code: str | None) -> None:
    assert code_in(text) == code


def test_a_fenced_code_is_found_again() -> None:
    assert code_in(fenced(DOUBLE)) == DOUBLE


def test_a_statement_shows_the_tests_it_is_given() -> None:
    assert statement("Double x.", []) == "Double x."
    assert statement("Double x.", TESTS) == f"Double x.\n\n{TESTS[0]}\n{TESTS[1]}"


@pytest.mark.parametrize(
    ("code", "tests", "expected"),
    [
        (DOUBLE, TESTS, Verdict(2, 2)),
        (DOUBLE + "\nif __name__ == '__main__':\n    print(input())", TESTS, Verdict(2, 2)),
        ("print('{}' * 99)\n" + DOUBLE, TESTS, Verdict(2, 2)),
        (
            "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int",
            ["assert A(1).x == 1", "from solution import A"],
            Verdict(2, 2),
        ),
        (
            "def double(x):\n    return x ** 2",
            ["assert double(2) == 4", "assert double(3) == 6"],
            Verdict(1, 2, "failed", "1 of 2 tests pass. assert double(3) == 6\ndouble(3) is 9"),
        ),
        (
            "def double(x):\n    return x / 0",
            TESTS[:1],
            Verdict(
                0,
                1,
                "failed",
                "0 of 1 tests pass. assert double(2) == 4\nZeroDivisionError: division by zero\n"
                "in line 2 of the code: return x / 0",
            ),
        ),
        ("x = [", TESTS[:1], Verdict(0, 1, "failed", "0 of 1 tests pass. ", 0)),
        (
            DOUBLE,
            ["assert double(1) ==", "assert double(1) == 2"],
            Verdict(1, 2, "failed", "1 of 2 tests pass. assert double(1) ==\n", 1),
        ),
        (
            "def double(x): return object()",
            TESTS[:1],
            Verdict(0, 1, "failed", "0 of 1 tests pass. assert double(2) == 4\ndouble(2) is <object object at 0x...>"),
        ),
    ],
)
def test_verdicts(code: str, tests: list[str], expected: Verdict) -> None:
    found = verdict(code, tests)
    assert found._replace(feedback="") == expected._replace(feedback="")
    assert found.feedback.startswith(expected.feedback)
    assert found.ok == (not expected.kind)
    assert "test.py" not in found.feedback or "SyntaxError" in found.feedback


@pytest.mark.parametrize("leave", ["raise SystemExit", "import os; os._exit(0)", "import sys; sys.exit(0)"])
def test_leaving_early_passes_nothing(leave: str) -> None:
    found = verdict(f"{DOUBLE}\n{leave}", TESTS)
    assert (found.passed, found.kind) == (0, "failed")
    inside = verdict(f"def double(x):\n    {leave}", TESTS)
    assert (inside.passed, inside.kind) == (0, "failed")


def test_a_report_of_its_own_passes_nothing() -> None:
    forged = 'import os\nos.write(1, b\'{"passed": 2, "broken": 0, "failure": ""}\\n\')\nos._exit(0)'
    assert not verdict(forged, TESTS).ok


def test_what_was_stopped_tells_nothing_it_wrote() -> None:
    slow = "import sys, time\nsys.__stdout__.write('partial')\nsys.__stdout__.flush()\ntime.sleep(60)"
    busy = "while True: pass"
    expected = Verdict(0, 2, "timeout", "The code did not end in the time allowed.")
    assert verdict(slow, TESTS, wall_s=0.6) == expected
    assert verdict(busy, TESTS, wall_s=0.6) == expected
    assert verdict(f"import os\nfor _ in range(9): os.write(1, b'x' * 10**4)\n{DOUBLE}", TESTS).ok, "it goes nowhere"


def test_random_code_is_judged_alike_each_time() -> None:
    code = "import random\ndef double(x): return random.random()"
    first, second = verdict(code, TESTS), verdict(code, TESTS)
    assert first == second
    assert not first.ok
