"""Hostile programs in the real sandbox, ordinary ones, and machines that cannot confine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from generate import sandbox
from generate.sandbox import Limits, Result, run_python
from synthloop.errors import UserError

ROOT = Path(__file__).parents[2]
TIGHT = Limits(wall_s=8, cpu_s=4, memory_mb=128, num_processes=8, scratch_mb=4, output_kb=16)
REFUSES = "Model-written code cannot be confined"


@pytest.fixture
def confining() -> None:
    try:
        sandbox.require()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def unprobed() -> Iterator[None]:
    sandbox.require.cache_clear()
    yield
    sandbox.require.cache_clear()


def run(code: str, **changes: object) -> Result:
    return run_python(code, limits=TIGHT.model_copy(update=changes))


def error_line(result: Result) -> str:
    return (result.stderr.strip().splitlines() or [""])[-1]


def is_alive(token: str) -> bool:
    """Whether a process of this machine, in any namespace, has `token` in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if token.encode() in path.read_bytes():
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False


def wait_for(token: str, *, alive: bool) -> bool:
    deadline = time.monotonic() + 10
    while is_alive(token) != alive and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_alive(token) == alive


def attempts(paths: Iterable[str | Path], action: str) -> Result:
    """Run `action` for each `path`; a line `missing PATH` or `denied PATH` where it fails, `did PATH` elsewhere."""
    return run(f"""
import os
for path in {[str(path) for path in paths]!r}:
    try:
        {action}
        print("did", path)
    except FileNotFoundError:
        print("missing", path)
    except OSError:
        print("denied", path)
""")


def sleeper(token: str) -> str:
    """A program that starts a daemon, detached in every way, with `token` in its command line."""
    return f"""
import os, subprocess, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        late = "import time; time.sleep(0.5); open('/tmp/{token}', 'w'); time.sleep(60)"
        null = subprocess.DEVNULL
        subprocess.Popen([sys.executable, "-c", late, "{token}"], stdin=null, stdout=null, stderr=null)
    os._exit(0)
os.wait()
"""


# Hostile programs


@pytest.mark.usefixtures("confining")
def test_a_fork_bomb_is_bounded_and_ends_with_the_wall_limit() -> None:
    count = run(
        "import os, time\nfor n in range(99):\n    print(n, flush=True)\n    os.fork() or time.sleep(9)", wall_s=9
    )
    assert count.stdout.split() == [str(n) for n in range(8)]  # the program itself and seven children
    assert error_line(count) == "BlockingIOError: [Errno 11] Resource temporarily unavailable"
    bomb = run("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass", wall_s=1)
    assert bomb == Result(-9, "", "", timed_out=True, reason="wall limit of 1 s")


@pytest.mark.usefixtures("confining")
def test_memory_is_bounded_in_one_process_and_in_all_together() -> None:
    one = run("bytearray(10 * 2**30)")
    assert (one.exit_code, error_line(one), one.reason) == (1, "MemoryError", "")
    several = (
        "import os, time\nfor _ in range(3):\n    if os.fork() == 0: break\nx = b'x' * (70 * 2**20)\ntime.sleep(8)"
    )
    assert run(several) == Result(-9, "", "", timed_out=False, reason="memory limit of 128 MB")
    mapped = "import mmap, os, time\nfor _ in range(3):\n    if os.fork() == 0: break\nm = mmap.mmap(-1, 70 * 2**20)\n"
    assert run(mapped + "for _ in range(70): m.write(bytes(2**20))\ntime.sleep(8)").reason == "memory limit of 128 MB"


@pytest.mark.usefixtures("confining")
@pytest.mark.parametrize(
    "call", ["os.memfd_create('x')", "check(libc.shmget(0, 2**30, 0o1600))", "check(libc.msgget(0, 0o1600))"]
)
def test_memory_that_the_limits_do_not_count_is_denied(call: str) -> None:
    check = "import ctypes, os\nlibc = ctypes.CDLL(None)\ndef check(n):\n    if n < 0: raise PermissionError\n"
    assert error_line(run(check + call)).startswith("PermissionError")


@pytest.mark.usefixtures("confining")
def test_a_symlink_does_not_lead_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("untouched")
    ways = [secret, f"/proc/1/root{secret}", f"/../..{secret}", f"/outside{secret}"]
    link = "os.path.lexists('link') and os.unlink('link'); os.symlink(path, 'link'); "
    for action in ("open('link').read()", "open('link', 'w').write('overwritten')"):
        assert attempts(ways, link + action).stdout.splitlines() == [f"missing {way}" for way in ways]
    assert secret.read_text() == "untouched"
    run(f"import os\nos.makedirs({str(tmp_path)!r})\nopen({str(secret)!r}, 'w').write('overwritten')")
    assert secret.read_text() == "untouched"


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "", ".", "a//b", "a\0b", "main.py", "./main.py", "é", "x\n"]
)
def test_names_of_files_that_are_no_plain_relative_path_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name for a file"):
        run_python("", files={name: ""})


@pytest.mark.usefixtures("confining")
def test_the_environment_and_the_files_of_the_machine_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHLOOP_TOKEN", "hunter2")
    result = run(
        "import os\nprint(sorted(os.environ), *(e for _, e in sorted(os.environ.items())), sorted(os.listdir('/')))"
    )
    assert result.ok
    assert "SYNTHLOOP_TOKEN" not in result.stdout
    assert "hunter2" not in result.stdout
    paths = [
        "/proc/self/environ",
        "/proc/1/environ",
        "/etc/passwd",
        Path.home(),
        ROOT,
        "/sys",
        "/home",
        tempfile.mkdtemp(),
    ]
    assert attempts(paths, "os.stat(path)").stdout.splitlines() == [f"missing {path}" for path in paths]


@pytest.mark.usefixtures("confining")
def test_no_process_outside_can_be_signalled() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as bystander:
        try:
            everyone = f"import os\nfor pid in [-1, 1, {os.getpid()}, {bystander.pid}, *range(3, 40000)]:\n"
            everyone += "    for number in (2, 9, 15):\n        try:\n            os.kill(pid, number)\n"
            everyone += "        except ProcessLookupError: pass\nprint('alive')"
            assert run(everyone).stdout == "alive\n"
            assert run("import os\nos.killpg(0, 9)") == Result(-9, "", "", timed_out=False, reason="")
            assert bystander.poll() is None
        finally:
            bystander.kill()


@pytest.mark.usefixtures("confining")
def test_there_is_no_network_not_even_to_this_machine(tmp_path: Path) -> None:
    path, abstract = str(tmp_path / "socket"), f"\0synthloop-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as unnamed,
    ):
        for unix, address in ((named, path), (unnamed, abstract)):
            unix.bind(address)
            unix.listen()
        port = server.getsockname()[1]
        addresses = [
            ("AF_INET", ("127.0.0.1", port)),
            ("AF_INET", ("8.8.8.8", 53)),
            ("AF_UNIX", path),
            ("AF_UNIX", abstract),
        ]
        code = (
            f"import socket\nfor family, address in {addresses!r}:\n    sock = socket.socket(getattr(socket, family))\n"
        )
        code += "    sock.settimeout(1)\n    try: sock.connect(address)\n    except OSError: print('refused')"
        assert run(code).stdout == "refused\n" * 4
        for listener in (server, named, unnamed):
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
    for family in ("AF_VSOCK", "AF_NETLINK", "AF_PACKET"):
        assert error_line(run(f"import socket\nsocket.socket(socket.{family})")).startswith("PermissionError")


@pytest.mark.usefixtures("confining")
def test_nothing_outside_of_the_scratch_folder_can_be_written(tmp_path: Path) -> None:
    name = f"synthloop-sandbox-{os.getpid()}"
    folders: list[str | Path] = [
        "/tmp",
        "/var/tmp",
        "/etc",
        "/",
        "/dev",
        "/usr/lib",
        "/python/lib",
        Path.home(),
        tmp_path,
        ROOT,
    ]
    action = f"os.makedirs(path, exist_ok=True); open(path + '/{name}', 'w').write('x')"
    written = [line for line in attempts(folders, action).stdout.splitlines() if line.startswith("did")]
    assert {"did /tmp"} <= set(written) <= {"did /tmp", f"did {tmp_path}"}  # /tmp is a name of /scratch
    assert not [folder for folder in [*folders, Path(sys.base_prefix, "lib")] if Path(folder, name).exists()]


@pytest.mark.usefixtures("confining")
def test_deleting_everything_in_sight_deletes_nothing() -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    before = sorted(os.listdir(stdlib))
    code = (
        "import os, shutil\nfor path in ('/scratch', '/python', '/dev'):\n    shutil.rmtree(path, ignore_errors=True)\n"
    )
    code += "print(os.path.exists('main.py'), os.path.exists(os.__file__))"
    assert run(code).stdout == "False True\n"
    assert sorted(os.listdir(stdlib)) == before
    assert run("print(1)").ok


@pytest.mark.usefixtures("confining")
def test_privileges_can_neither_be_used_nor_gained() -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
namespaces = [libc.unshare(flag) for flag in (0x10000000, 0x00020000, 0x40000000)]
remount = libc.mount(b"none", b"/python/lib", None, 32 | 4096, None)
root = (libc.umount2(b"/scratch", 2), libc.chroot(b"/scratch"), libc.mount(b"t", b"/scratch", b"tmpfs", 0, None))
trace, user = libc.ptrace(16, 1, None, None), libc.setuid(0)
print(*namespaces, remount, *root, trace, user, libc.prctl(39, 0, 0, 0, 0), os.getuid(), os.getgroups())
"""
    result = run(code)
    assert result.stdout.split()[:-1] == ["-1"] * 9 + ["1", "65534"], result
    assert "0" not in result.stdout.split()[-1].strip("[]").split(",")


@pytest.mark.usefixtures("confining")
def test_an_endless_loop_ends_with_the_cpu_limit_and_endless_sleep_with_the_wall_limit() -> None:
    killed = Result(-9, "", "", timed_out=True, reason="CPU limit of 1 s")
    assert run("while True: pass", cpu_s=1, wall_s=60) == killed
    assert (
        run("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", cpu_s=1, wall_s=60)
        == killed
    )
    start = time.monotonic()
    slept = run("import time\nprint('tired', flush=True)\ntime.sleep(99)", wall_s=0.5)
    assert slept == Result(-9, "tired\n", "", timed_out=True, reason="wall limit of 0.5 s")
    assert 0.5 <= time.monotonic() - start < 3


@pytest.mark.usefixtures("confining")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_is_cut_at_the_limit(stream: str) -> None:
    endless = run(f"import sys\nwhile True: sys.{stream}.write('0123456789abcde\\n')")
    assert getattr(endless, stream) == "0123456789abcde\n" * 1024
    assert (endless.exit_code, endless.timed_out, endless.reason) == (-9, False, "output limit of 16 KB")
    assert run(f"import sys\nsys.{stream}.write('x' * 16384)").ok
    assert run(f"import sys\nsys.{stream}.write('x' * 16385)").reason == "output limit of 16 KB"


@pytest.mark.usefixtures("confining")
def test_the_scratch_folder_is_bounded() -> None:
    bomb = "import os\nfor n in range(64):\n    with open(f'{n}', 'wb') as f: f.write(bytes(2**20))\n"
    assert error_line(run(bomb)).startswith("OSError: [Errno 28]")
    assert error_line(run("with open('x', 'wb') as f: f.truncate(2**40)")).startswith("OSError: [Errno 27]")
    assert error_line(run("for n in range(10**6): open(f'{n}', 'w').close()")).startswith("OSError: [Errno 28]")


@pytest.mark.usefixtures("confining")
def test_a_daemon_dies_with_the_program() -> None:
    token = f"daemon-{os.getpid()}"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", token]) as control:
        assert wait_for(token, alive=True)
        control.kill()
    assert run(sleeper(token)).ok
    assert not is_alive(token)
    time.sleep(0.7)
    assert not Path("/tmp", token).exists()


@pytest.mark.usefixtures("confining")
def test_a_program_dies_with_a_killed_caller() -> None:
    token = f"orphan-{os.getpid()}"
    code = f"from generate.sandbox import run_python\nrun_python({sleeper(token) + 'import time; time.sleep(60)'!r})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as caller:
        assert wait_for(token, alive=True)
        caller.kill()
    assert wait_for(token, alive=False)


@pytest.mark.usefixtures("confining")
def test_a_program_cannot_forge_how_it_ended() -> None:
    forge = "import os\nfor fd in range(3, 128):\n    try: os.write(fd, b'exit 0 0\\n')\n    except OSError: pass\n"
    assert run(forge + "os._exit(5)") == Result(5, "", "", timed_out=False, reason="")


# Ordinary programs


@pytest.mark.usefixtures("confining")
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
    result = run_python(code, stdin="1\n2\n3\n", files=files)
    assert result == expected
    assert result.ok == (expected.exit_code == 0)


@pytest.mark.usefixtures("confining")
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
    result = run_python(code)
    assert result.stdout.splitlines() == ['{"l": 2} 4 True', "thread", "2", "1 2", "No module named 'pydantic'"], result


@pytest.mark.usefixtures("confining")
def test_what_goes_into_prompts_is_the_same_in_every_run() -> None:
    code = "import json, os\nprint({'a', 'b', 'c'}, object(), os.getpid(), os.getcwd())\njson.loads('{')"
    first, second = (run_python(code) for _ in range(2))
    assert first == second
    assert first.exit_code == 1
    assert first.stderr.startswith('Traceback (most recent call last):\n  File "/scratch/main.py", line 3, in <module>')
    assert sys.base_prefix not in first.stderr
    assert error_line(first).startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert error_line(run_python("def f(:")) == "SyntaxError: invalid syntax"


@pytest.mark.usefixtures("confining")
def test_odd_text_is_the_program_s_problem() -> None:
    assert error_line(run_python("print('\ud800')")).startswith("SyntaxError: ")
    assert not run_python("x = '\0'").ok
    assert (
        run_python("print(len(open(0, encoding='utf-8', errors='replace').read()))", stdin="x" * 10**6).stdout
        == "1000000\n"
    )
    with pytest.raises(ValueError, match="scratch_mb is 4"):
        run_python("", stdin="x" * 2**23, limits=TIGHT)


@pytest.mark.usefixtures("confining")
def test_many_run_at_once() -> None:
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda n: run(f"import os\nos.fork() and os.wait()\nprint({n})"), range(12)))
    assert [result.stdout for result in results] == [f"{n}\n" * 2 for n in range(12)]


# Machines that cannot confine


@pytest.mark.usefixtures("unprobed")
def test_it_refuses_where_a_guarantee_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_probe", lambda: "the network of the machine can be reached")
    with pytest.raises(
        UserError, match=f"{REFUSES} on this machine: the network of the machine can be reached"
    ) as error:
        run_python("print(1)")
    assert "user namespaces" in str(error.value)
    assert "self_debug" in str(error.value)


@pytest.mark.usefixtures("confining")
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
    text = sandbox.CONFINE.read_text(encoding="utf-8")
    assert guarantee in text
    leaky = tmp_path / "leaky.py"
    leaky.write_text(text.replace(guarantee, without, 1), encoding="utf-8")
    monkeypatch.setattr(sandbox, "CONFINE", leaky)
    with pytest.raises(UserError, match=message):
        sandbox.require.__wrapped__()


@pytest.mark.usefixtures("confining")
def test_it_refuses_where_the_kernel_forbids_user_namespaces() -> None:
    """In a user namespace that may have no further ones: what a locked-down container looks like."""
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    code = "from generate.sandbox import run_python; run_python('print(1)')"
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", sys.executable, "-c", code]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1) of util-linux")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert f"UserError: {REFUSES} on this machine: [Errno 28] No space left on device: 'unshare'" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="every test runs as an ordinary user already")
@pytest.mark.usefixtures("confining")
def test_it_confines_for_an_ordinary_user_too() -> None:
    """Python and this project may lie in a folder of root's: they are bound where `nobody` can read them."""
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
