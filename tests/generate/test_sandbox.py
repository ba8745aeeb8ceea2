"""Ordinary programs in the real sandbox, and machines that cannot confine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from generate import sandbox
from generate.sandbox import Result, run_python
from synthloop.errors import UserError
from tests.generate.sandboxed import error_line, run, skip_unless_confined

ROOT = Path(__file__).parents[2]
REFUSES = "Model-written code cannot be confined"


@pytest.fixture
def unprobed() -> Iterator[None]:
    sandbox.require.cache_clear()
    yield
    sandbox.require.cache_clear()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print(6 * 7)", Result(0, "42\n", "", False, "")),
        ("print(sum(int(line) for line in open(0)))", Result(0, "6\n", "", False, "")),
        ("exit(3)", Result(3, "", "", False, "")),
        ("import os\nos.abort()", Result(-6, "", "", False, "")),
        ("raise SystemExit('no')", Result(1, "", "no\n", False, "")),
        ("from package.solution import double\nprint(double(21))", Result(0, "42\n", "", False, "")),
        ("print(open('data.txt').read())", Result(0, "héllo\n", "", False, "")),
        ("import sys\nsys.stdout.buffer.write(b'\\xff')", Result(0, "�", "", False, "")),
        ("print(__name__, __file__)", Result(0, "__main__ /scratch/main.py\n", "", False, "")),
    ],
)
def test_ordinary_programs(code: str, expected: Result) -> None:
    files = {"package/solution.py": "def double(x): return 2 * x", "data.txt": "héllo"}
    result = run(code, stdin="1\n2\n3\n", files=files)
    assert result == expected
    assert result.ok == (expected.exit_code == 0)


def test_the_standard_library_works_and_only_that() -> None:
    code = """
import collections, concurrent.futures, json, math, random, re, sqlite3, subprocess, sys, tempfile, threading, zlib
with tempfile.NamedTemporaryFile("w+") as file, tempfile.TemporaryDirectory() as folder:
    file.write(json.dumps(collections.Counter(re.findall("l", "hello"))))
    file.seek(0)
    print(file.read(), math.isqrt(17), file.name.startswith("/scratch/"))
thread = threading.Thread(target=print, args=["thread"])
thread.start()
thread.join()
print(subprocess.run(["python3", "-c", "print(1 + 1)"], capture_output=True, text=True).stdout.strip())
with concurrent.futures.ProcessPoolExecutor(2) as pool:
    print(*pool.map(abs, [-1, -2]))
try:
    import pydantic
except ModuleNotFoundError as error:
    print(error)
"""
    result = run(code)
    assert result.stdout.splitlines() == ['{"l": 2} 4 True', "thread", "2", "1 2", "No module named 'pydantic'"], result


def test_what_goes_into_prompts_is_the_same_in_every_run() -> None:
    code = "import json, os\nprint({'a', 'b', 'c'}, object(), os.getpid(), os.getcwd())\njson.loads('{')"
    first, second = (run(code) for _ in range(2))
    assert first == second
    assert first.exit_code == 1
    assert first.stderr.startswith('Traceback (most recent call last):\n  File "/scratch/main.py", line 3, in <module>')
    assert sys.base_prefix not in first.stderr
    assert error_line(first).startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert error_line(run("def f(:")) == "SyntaxError: invalid syntax"


def test_odd_text_is_the_program_s_problem() -> None:
    assert error_line(run("print('\ud800')")).startswith("SyntaxError: ")
    assert not run("x = '\0'").ok
    assert run("print(len(input()))", stdin="x" * 10**6).stdout == "1000000\n"
    many = {f"{number}.txt": "x" for number in range(1100)}  # little text, in more pages and files than there are
    for given in ({"stdin": "x" * 2**23}, {"files": many}):
        assert run("x = 1", **given) == Result(-9, "", "", timed_out=False, reason="scratch limit of 4 MB")


def test_many_run_at_once() -> None:
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda n: run(f"import os\nos.fork() and os.wait()\nprint({n})"), range(12)))
    assert [result.stdout for result in results] == [f"{n}\n" * 2 for n in range(12)]


@pytest.mark.usefixtures("unprobed")
def test_it_refuses_where_a_guarantee_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_probe", lambda: "the network of the machine can be reached")
    with pytest.raises(UserError, match=f"{REFUSES} on this machine: the network .* can be reached") as error:
        run_python("print(1)")
    assert "user namespaces" in str(error.value)
    assert "self_debug" in str(error.value)


@pytest.mark.parametrize(
    ("guarantee", "without", "message"),
    [
        (" | 0x40000000", "", "the network of the machine can be reached"),
        (" | 0x20000000", "", "processes of the machine can be signalled"),
        ("MS_RDONLY | MS_NOSUID | MS_NODEV)\n", "MS_NOSUID)\n", "files can be written outside"),
        ("MACHINES.index(platform.machine())", "1 - MACHINES.index(platform.machine())", "the probe ended with|died"),
        ("equal(1, 2, 0)", "equal(40, 2, 0)", "a channel to the host of this virtual machine"),
        ("(resource.RLIMIT_NPROC, ", "(resource.RLIMIT_CORE, 0 * ", "the number of processes is not limited"),
    ],
)
def test_the_probe_finds_what_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, guarantee: str, without: str, message: str
) -> None:
    skip_unless_confined()
    text = sandbox.CONFINE.read_text(encoding="utf-8")
    assert guarantee in text
    leaky = tmp_path / "leaky.py"
    leaky.write_text(text.replace(guarantee, without, 1), encoding="utf-8")
    monkeypatch.setattr(sandbox, "CONFINE", leaky)
    with pytest.raises(UserError, match=message):
        sandbox.require.__wrapped__()


def test_it_refuses_where_the_kernel_forbids_user_namespaces() -> None:
    """In a user namespace that may have no further ones: what a locked-down container looks like."""
    skip_unless_confined()
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    code = "from generate.sandbox import run_python; run_python('print(1)')"
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", sys.executable, "-c", code]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1) of util-linux")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert f"UserError: {REFUSES} on this machine: [Errno 28] No space left on device: 'unshare'" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="every test runs as an ordinary user already")
def test_it_confines_for_an_ordinary_user_too() -> None:
    """Python and this project may lie in a folder of root's: they are bound where `nobody` can read them."""
    skip_unless_confined()
    folders = {"python": sys.base_prefix, "packages": sysconfig.get_path("purelib"), "project": str(ROOT)}
    code = "import os; from generate.sandbox import *; print(os.getuid(), run_python('print(6 * 7)').stdout)"
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        script = "set -e\n"
        for name, source in folders.items():
            os.mkdir(f"{folder}/{name}")
            script += f"mount --bind {source} {folder}/{name}\n"
        python = f"{folder}/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        script += f'cd /\nexec setpriv --reuid 65534 --regid 65534 --clear-groups {python} -c "{code}"'
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder}/project:{folder}/packages"}
        command = ["unshare", "--mount", "sh", "-c", script]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.stdout.split() == ["65534", "42"], result.stderr
