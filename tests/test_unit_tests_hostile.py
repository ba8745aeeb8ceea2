"""Code that only pretends to pass its tests, and code that is odd: none passes, and none costs more than itself."""

from __future__ import annotations

from functools import partial

import pytest

from generate.sandbox import Limits, Result, run_python
from synthloop.unit_tests import Verdict, run_tests
from tests.generate.sandboxed import skip_unless_confined

TESTS = ["assert double(21) == 42", "assert double(-4) == -8", "import math\nassert math.isclose(double(0.5), 1.0)"]
FORGED = '{"passed": 3, "broken": 0, "failure": ""}'
EQUAL = "class Equal{base}:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
WRONG = "\ndef double(x): return 1\n"


def verdict(code: str, tests: list[str] = TESTS) -> Verdict:
    skip_unless_confined()
    limits = Limits(wall_s=5, cpu_s=2, memory_mb=256, num_processes=8, scratch_mb=4)
    return run_tests(code, tests, partial(run_python, limits=limits))


PRETENDERS = {
    "equal to all": EQUAL.format(base="") + "def double(x): return Equal()",
    "a number equal to all": EQUAL.format(base="(int)") + "def double(x): return Equal()",
    "a float equal to all": EQUAL.format(base="(float)") + "def double(x): return Equal()",
    "arithmetic of its own": "class Any:\n    def __getattr__(self, n): return lambda *a: True\n"
    "    __sub__ = __rsub__ = __lt__ = __le__ = __eq__ = __ne__ = __float__ = lambda *a: 0\n"
    "def double(x): return Any()",
    "a class whose metaclass says equal": "class Meta(type):\n    def __eq__(c, o): return True\n    __hash__ = None\n"
    "class A(metaclass=Meta): pass\ndef double(x): return A",
    "equal arguments": EQUAL.format(base="") + "def double(x):\n    return [Equal()]",
    "exec replaced": "import builtins\nbuiltins.exec = lambda *a: None" + WRONG,
    "compile replaced": "import builtins\nreal = compile\n"
    "builtins.compile = lambda *a, **k: real('pass', 'x', 'exec')" + WRONG,
    "isinstance replaced": "import builtins\nbuiltins.isinstance = lambda *a: True" + WRONG,
    "json.dumps replaced": f"import json\njson.dumps = lambda *a, **k: {FORGED!r}" + WRONG,
    "json.dumps adds": "import json\nreal = json.dumps\n"
    "json.dumps = lambda d, **k: real({**d, 'value': True}) if isinstance(d, dict) else real(d)" + WRONG,
    "math.isclose replaced": "import math\nmath.isclose = lambda *a: True\ndef double(x): return 42 if x == 21 else -8",
    "math of its own": "class math: isclose = lambda *a: True\ndef double(x): return 42 if x == 21 else -8",
    "all of its own": "def all(x): return True\nabs = int = all\ndef double(x): return 1",
    "reads what lies beside it": "import glob, json\nseen = [open(p).read() for p in glob.glob('/scratch/**', "
    "recursive=True) if p.endswith(('.json', '.txt'))]\ndef double(x): return seen[0]",
    "stdin rewound": "import os\ntry:\n    os.lseek(0, 0, 0)\nexcept OSError: pass\nseen = os.read(0, 9999).decode()\n"
    "def double(x): return eval(seen.split('double(%r) == ' % x)[1].split('\"')[0])",
    "every descriptor read": "import os\nseen = b''\nfor n in range(64):\n    try:\n        os.set_blocking(n, False)\n"
    "        seen += os.pread(n, 9999, 0)\n    except OSError: pass\n"
    "def double(x): return eval(seen.decode().split('double(%r) == ' % x)[1].split('\"')[0])",
    "report on every descriptor": f"import os\nfor n in range(64):\n    try: os.write(n, b'{FORGED}')\n"
    "    except OSError: pass\nos._exit(0)",
    "report on stdout": f"import sys\nsys.__stdout__.write('{FORGED}')\nsys.__stdout__.flush()\nimport os\nos._exit(0)",
    "exit 0": "import os\nos._exit(0)",
    "exit in the call": "def double(x):\n    import os\n    os._exit(0)",
    "system exit": "def double(x): raise SystemExit(0)",
    "asserts switched off": "import sys\nsys.flags = None\n__debug__mode = False\nimport ast\n"
    "ast.Assert = ast.Expr" + WRONG,
    "the caller's frames": "import sys\ndef double(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        frame.f_globals['tests'] = frame.f_locals['tests'] = []\n        for n in ('passed', 'total'):\n"
    "            frame.f_globals[n] = 3\n        frame = frame.f_back\n    return 1",
    "the garbage collector": "import gc\ndef double(x):\n    for one in gc.get_objects():\n"
    "        if type(one) is list and any(type(t) is str and 'assert double' in t for t in one[:9]): one.clear()\n"
    "    return 1",
    "the harness patched": "import sys\nmain = sys.modules['__main__']\nmain.attempt = lambda *a: None\n"
    f"main.report_of = lambda *a: {FORGED}\nmain.Peer._written_error = lambda *a: '{{\"value\": true}}'" + WRONG,
    "messages of its own": "import json, os\nline = json.dumps({'value': 42, 'changed': []}).encode() + b'\\n'\n"
    "for n in range(3, 64):\n    try: os.write(n, line * 20)\n    except OSError: pass" + WRONG,
    "modules beside the tests": "for n in ('math', 'random', 'ast'):\n"
    "    open(f'/scratch/{n}.py', 'w').write('isclose = lambda *a: True')\n"
    "def double(x): return {21: 42, -4: -8}.get(x, 7)",
    "main.py rewritten": f"open('/scratch/main.py', 'w').write('print({FORGED!r})')" + WRONG,
    "tests.json rewritten": "open('/scratch/tests.json', 'w').write('[]')" + WRONG,
    "its tester killed": "import os\nos.kill(os.getppid(), 9)" + WRONG,
    "its tester interrupted": "import os\ndef double(x):\n    os.kill(os.getppid(), 2)\n    return 1",
    "a profiler": "import sys\nsys.setprofile(lambda f, *a: f.f_globals.update(passed=3))" + WRONG,
    "at exit": f"import atexit, os\natexit.register(lambda: os.write(1, b'{FORGED}'))" + WRONG,
    "the excepthook": "import sys\nsys.excepthook = lambda *a: print('ok')\ndef double(x): raise ValueError",
}

FINDS_ITS_PEER = """
import json, sys
def ask(operation, *arguments):
    lines = peer()._lines
    lines.write(json.dumps({"do": operation, "with": arguments}).encode() + b"\\n")
    lines.flush()
    return json.loads(lines.readline())["value"]
def peer():
    frame = sys._getframe()
    while type(found := frame.f_locals.get("self")).__name__ != "Peer":
        frame = frame.f_back
    return found
class Answer: pass
def answer(form):
    write = peer()._write
    peer()._write = lambda value: form if isinstance(value, Answer) else write(value)
    return Answer()
EQUAL = ["A", {"tuple": [{"class": ["object"]}]}, {"dict": [["__eq__", {"class": ["bool"]}], ["__hash__", None]]}]
NONE = {"dict": []}
"""

NAMES_A_CLASS = {
    "calls a class that it names": (
        "def double(x):\n    made = ask('call', {'class': ['type']}, EQUAL, NONE)\n"
        "    return answer({'yours': ask('call', {'yours': made['mine']}, [], NONE)['mine']})",
        ["assert double(21) == 42"],
    ),
    "calls it through a test's function": (
        "def apply(f, x):\n    call = {'yours': f._number}\n"
        "    made = ask('call', call, [{'class': ['type']}, {'list': EQUAL}], NONE)\n"
        "    return answer({'yours': ask('call', call, [{'yours': made['mine']}, []], NONE)['mine']})",
        ["assert apply(lambda f, x: f(*x), 1) == 42"],
    ),
    "is handed a class by a test's function": (
        "def apply(f, g):\n    f(int)\n    return g(type, ('A', (), {}))",
        ["assert apply(lambda x: type(x), lambda f, x: f(*x)).__name__ == 'A'"],
    ),
    "answers a class": ("def double(x): return answer({'class': ['type']})", ["assert double(1)(2) is int"]),
    "makes a class below a built-in one": (
        "def double(x): return answer({'class': ['A', 'int']})",
        ["assert double(1).__name__ == 'A'"],
    ),
    "names what it was not handed": (
        "def double(x): return answer({'yours': 1})",
        ["assert double(1)"],
    ),
    "uses what it was not handed": (
        "def double(x): return answer({'yours': ask('iter', ['yours'])['mine']})",
        ["assert 'yours' in double(1)"],
    ),
    "makes an iterator": (
        "def double(x): return answer({'yours': ask('iter', [42])['mine']})",
        ["assert 42 in double(1)"],
    ),
}

BRINGS_ITS_JUDGE = {
    "abs": ("def round(x): return 99\ndef abs(x): return 0", ["assert abs(round(2.6) - 3) < 1e-9"]),
    "abs alone": ("def abs(x): return 0", ["assert abs(round(2.6) - 4) < 1e-9"]),
    "all": ("def sum(a, b): return 0\ndef all(x): return True", ["assert all(sum(a, 1) == a + 1 for a in (1, 2))"]),
    "all alone": ("def all(x): return True", ["assert all(sum(a, 1) == a + 1 for a in (1, 2))"]),
    "all, and no function": ("def all(x): return True", ["assert all(double(a) == a + a for a in (1, 2))"]),
    "math": (
        "def copy(x): return 0\nclass math: isclose = staticmethod(lambda *a: True)",
        ["assert math.isclose(copy(2), 2)"],
    ),
    "len": ("def filter(f, x): return 0\ndef len(x): return 2", ["assert len(filter(None, [0, 1, 2])) == 2"]),
}

ODD = {
    "not UTF-8 on every descriptor": "import os\nfor n in range(64):\n    try: os.write(n, b'\\xff\\xfe\\n')\n"
    "    except OSError: pass",
    "error lines": "import os\nfor n in range(64):\n    try: os.write(n, b'error x\\n')\n    except OSError: pass",
    "a lone surrogate raised": "def double(x): raise ValueError('\\ud800')",
    "a lone surrogate returned": "def double(x): return '\\ud800'",
    "a lone surrogate in the code": "def double(x): return '\ud800'",
    "a lone surrogate in a name": "def double(x): raise type('E\\ud800', (Exception,), {})()",
    "a null byte": "x = '\0'",
    "5,000 digits": "def double(x): return 10 ** 5000",
    "5,000 digits raised": "def double(x): raise ValueError(10 ** 5000)",
    "deeply nested": "def double(x):\n    y = []\n    for _ in range(10 ** 5): y = [y]\n    return y",
    "deeply nested source": "x = " + "(" * 5000 + ")" * 5000,
    "a list that holds itself": "def double(x):\n    y = []\n    y.append(y)\n    return y",
    "no repr": "class A:\n    def __repr__(self): raise SystemExit\ndef double(x): return A()",
    "repr is no text": "class A:\n    def __repr__(self): return 5\ndef double(x): return A()",
    "a long message": "def double(x): raise ValueError('x' * 10 ** 7)",
    "an exception without str": "class E(Exception):\n    def __str__(self): raise ValueError\ndef double(x): raise E",
    "an odd class of exceptions": "class E(Exception):\n    __module__ = None\n    args = 5\ndef double(x): raise E",
    "a decoding error": "def double(x): return b'\\xff'.decode()",
    "a group of errors": "def double(x): raise ExceptionGroup('x', [ValueError(1)])",
    "keyboard interrupt": "def double(x): raise KeyboardInterrupt",
    "an endless iterator": "import itertools\ndef double(x): return itertools.count()",
    "too large": "#" * (5 * 2**20),
    "nan": "def double(x): return float('nan')",
    "killed": "import os\ndef double(x): os.kill(os.getpid(), 9)",
    "aborted": "import os\ndef double(x): os.abort()",
    "recursion": "def double(x): return double(x)",
    "memory": "def double(x): return 'x' * 10 ** 12",
    "stopped": "import sys\nsys.modules.clear()\ndel sys",
}

HONEST: dict[str, tuple[str, list[str]]] = {
    "callback": (
        "def apply(f, x, key=None): return [f(i) for i in x]",
        ["assert apply(lambda i: i + 1, [1]) == [2]", "assert apply(len, ('ab',)) == [2]"],
    ),
    "in place": ("def sort(x): x[0].sort()", ["y = [[2, 1]]\nassert sort(y) is None and y == [[1, 2]]"]),
    "generator": (
        "def count(n):\n    yield from range(n)",
        ["assert list(count(3)) == [0, 1, 2]", "assert 2 in count(3)"],
    ),
    "exception": (
        "class Bad(ValueError): pass\ndef f(x): raise Bad('no')",
        [
            "try: f(1)\nexcept Bad as e: assert str(e) == 'no'\nelse: assert False",
            "try: f(1)\nexcept ValueError: pass\nelse: assert False",
        ],
    ),
    "objects": (
        "class Node:\n    def __init__(self, v): self.v, self.next = v, None\ndef last(n):\n"
        "    while n.next: n = n.next\n    return n.v",
        ["a = Node(1)\na.next = Node(2)\nassert last(a) == 2 and a.next is a.next and isinstance(a, Node)"],
    ),
    "values": (
        "from collections import Counter\nfrom fractions import Fraction\nfrom datetime import date\n"
        "def f(): return {(1, 2.5): {3}, 'x': [None, True, b'y', 1j, 2 ** 100, range(3)]}, date(2020, 1, 2), "
        "Fraction(1, 3)\n"
        "def g(): return Counter('aab')",
        [
            "from datetime import date\nfrom fractions import Fraction\nassert f() == ({(1, 2.5): {3}, "
            "'x': [None, True, b'y', 1j, 2 ** 100, range(3)]}, date(2020, 1, 2), Fraction(1, 3))",
            "assert g() == {'a': 2, 'b': 1}",
        ],
    ),
    "named like a builtin": ("def sum(a, b): return a + b", ["assert sum(1, 2) == 3"]),
    "named like a judge": ("def all(x): return list(x)", ["assert all((1, 2)) == [1, 2]"]),
    "a builtin's name, and another in tests": (
        "def round(x): return int(x)\ndef abs(x): return max(x, -x)",
        ["assert abs(round(2.6) - 2) < 1e-9", "import math\nassert math.isclose(round(float('2.6')), 2)"],
    ),
    "a module's name": ("def copy(x): return x * 2", ["y = [1]\nassert copy(y) == y + y and len(copy(y)) == 2"]),
    "a class": ("def of(x): return type(x)", ["assert of(1) is int and of(True) is bool and of([]) is list"]),
    "a test's class": (
        "def make(cls, x): return cls(x)",
        ["class P:\n    def __init__(self, x): self.x = x\nassert make(P, 1).x == 1", "assert make(enumerate, 'a')"],
    ),
    "state": ("seen = []\ndef add(x): seen.append(x)", ["add(1)\nassert seen == [1]"]),
    "imports": ("import math\ndef root(x): return math.sqrt(x)", ["assert math.isclose(root(2) ** 2, 2)"]),
}


@pytest.mark.parametrize("name", PRETENDERS)
def test_code_that_only_pretends_does_not_pass(name: str) -> None:
    found = verdict(PRETENDERS[name])
    assert not found.ok
    assert (found.passed < 3, found.total) == (True, 3)


@pytest.mark.parametrize("name", NAMES_A_CLASS)
def test_code_makes_and_calls_nothing_in_the_process_of_its_tests(name: str) -> None:
    code, tests = NAMES_A_CLASS[name]
    found = verdict(FINDS_ITS_PEER + code, tests)
    assert (found.ok, found.passed) == (False, 0)


@pytest.mark.parametrize("name", BRINGS_ITS_JUDGE)
def test_only_the_function_under_test_may_be_named_like_one_of_pythons(name: str) -> None:
    code, tests = BRINGS_ITS_JUDGE[name]
    found = verdict(code, tests)
    assert (found.ok, found.passed) == (False, 0)
    assert ("isn't clear which function is tested" in found.feedback) == ("alone" in name or name == "len")


@pytest.mark.parametrize("name", ODD)
def test_odd_code_is_its_own_failure(name: str) -> None:
    found = verdict(ODD[name])
    assert (found.ok, found.passed, found.total) == (False, 0, 3)
    assert found.feedback
    assert len(found.feedback.encode()) < 20_000


@pytest.mark.parametrize("name", HONEST)
def test_honest_code_passes(name: str) -> None:
    code, tests = HONEST[name]
    assert verdict(code, tests) == Verdict(len(tests), len(tests))


def test_the_tables_are_as_long_as_they_should_be() -> None:
    assert len(PRETENDERS) >= 25
    assert len(ODD) >= 18


@pytest.mark.parametrize(
    "stdout",
    [
        "",
        "[]",
        "{}",
        "nonsense",
        "\ud800",
        "[" * 10**5,
        '{"passed": ' + "9" * 5000 + "}",
        '{"passed": 99, "broken": 0, "failure": ""}',
        '{"passed": 2, "broken": 0, "failure": ""}',
        '{"passed": -1, "broken": 0, "failure": ""}',
        '{"passed": true, "broken": 0, "failure": ""}',
        '{"passed": 3, "broken": 0, "failure": "no"}',
        '{"passed": 3, "broken": 0, "failure": "\\ud800"}',
        '{"passed": 3, "broken": 0}',
    ],
)
def test_a_report_that_does_not_say_that_all_passed_is_a_failure(stdout: str) -> None:
    found = run_tests("", TESTS, lambda *_, **__: Result(0, stdout, "", False, ""))
    assert (found.ok, found.kind) == (False, "failed")
    assert "\ud800" not in found.feedback


def test_no_code_passes_without_tests() -> None:
    assert not verdict("x = 1", []).ok
    assert not Verdict(0, 0).ok
    assert not Verdict(2, 3).ok
