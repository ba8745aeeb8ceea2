"""Hostile programs in the real sandbox."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from generate import sandbox
from generate.sandbox import Result, run_python
from tests.generate.sandboxed import error_line, run, skip_unless_confined

ROOT = Path(__file__).parents[2]


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


def test_a_fork_bomb_is_bounded_and_ends_with_the_wall_limit() -> None:
    count = run(
        "import os, time\nfor n in range(99):\n    print(n, flush=True)\n    os.fork() or time.sleep(9)", wall_s=9
    )
    assert count.stdout.split() == [str(n) for n in range(8)]  # the program itself and seven children
    assert error_line(count) == "BlockingIOError: [Errno 11] Resource temporarily unavailable"
    bomb = run("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass", wall_s=1)
    assert bomb == Result(-9, "", "", timed_out=True, reason="wall limit of 1 s")


def test_memory_is_bounded_in_one_process_and_in_all_together() -> None:
    one = run("bytearray(10 * 2**30)")
    assert (one.exit_code, error_line(one), one.reason) == (1, "MemoryError", "")
    several = (
        "import os, time\nfor _ in range(3):\n    if os.fork() == 0: break\nx = b'x' * (70 * 2**20)\ntime.sleep(8)"
    )
    assert run(several) == Result(-9, "", "", timed_out=False, reason="memory limit of 128 MB")
    mapped = "import mmap, os, time\nfor _ in range(3):\n    if os.fork() == 0: break\nm = mmap.mmap(-1, 70 * 2**20)\n"
    assert run(mapped + "for _ in range(70): m.write(bytes(2**20))\ntime.sleep(8)").reason == "memory limit of 128 MB"


@pytest.mark.parametrize(
    "call", ["os.memfd_create('x')", "check(libc.shmget(0, 2**30, 0o1600))", "check(libc.msgget(0, 0o1600))"]
)
def test_memory_that_the_limits_do_not_count_is_denied(call: str) -> None:
    check = "import ctypes, os\nlibc = ctypes.CDLL(None)\ndef check(n):\n    if n < 0: raise PermissionError\n"
    assert error_line(run(check + call)).startswith("PermissionError")


def test_a_symlink_does_not_lead_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("untouched")
    ways: list[str | Path] = [secret, f"/proc/1/root{secret}", f"/../..{secret}", f"/outside{secret}"]
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


def test_the_environment_and_the_files_of_the_machine_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHLOOP_TOKEN", "hunter2")
    result = run(
        "import os\nprint(sorted(os.environ), *(e for _, e in sorted(os.environ.items())), sorted(os.listdir('/')))"
    )
    assert result.ok
    assert "SYNTHLOOP_TOKEN" not in result.stdout
    assert "hunter2" not in result.stdout
    paths: list[str | Path] = [
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
    below_tmp = {f"did {folder}" for folder in folders if Path(folder).is_relative_to("/tmp")}
    assert {"did /tmp"} <= set(written) <= below_tmp  # /tmp is a name of /scratch
    assert not [folder for folder in [*folders, Path(sys.base_prefix, "lib")] if Path(folder, name).exists()]


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


def test_an_endless_loop_ends_with_the_cpu_limit_and_endless_sleep_with_the_wall_limit() -> None:
    killed = Result(-9, "", "", timed_out=True, reason="CPU limit of 1 s")
    assert run("while True: pass", cpu_s=1, wall_s=60) == killed
    assert (
        run("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", cpu_s=1, wall_s=60)
        == killed
    )
    slept = run("import time\nprint('tired', flush=True)\ntime.sleep(99)", wall_s=0.5)
    assert slept == Result(-9, "tired\n", "", timed_out=True, reason="wall limit of 0.5 s")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_is_cut_at_the_limit(stream: str) -> None:
    endless = run(f"import sys\nwhile True: sys.{stream}.write('0123456789abcde\\n')")
    assert getattr(endless, stream) == "0123456789abcde\n" * 1024
    assert (endless.exit_code, endless.timed_out, endless.reason) == (-9, False, "output limit of 16 KB")
    assert run(f"import sys\nsys.{stream}.write('x' * 16384)").ok
    assert run(f"import sys\nsys.{stream}.write('x' * 16385)").reason == "output limit of 16 KB"


def test_the_scratch_folder_is_bounded() -> None:
    bomb = "import os\nfor n in range(64):\n    with open(f'{n}', 'wb') as f: f.write(bytes(2**20))\n"
    assert error_line(run(bomb)).startswith("OSError: [Errno 28]")
    assert error_line(run("with open('x', 'wb') as f: f.truncate(2**40)")).startswith("OSError: [Errno 27]")
    assert error_line(run("for n in range(10**6): open(f'{n}', 'w').close()")).startswith("OSError: [Errno 28]")


def test_a_daemon_dies_with_the_program() -> None:
    skip_unless_confined()
    token = f"daemon-{os.getpid()}"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", token]) as control:
        assert wait_for(token, alive=True)
        control.kill()
    assert run(sleeper(token)).ok
    assert not is_alive(token)
    time.sleep(0.7)
    assert not Path("/tmp", token).exists()


def test_a_program_dies_with_a_killed_caller(tmp_path: Path) -> None:
    skip_unless_confined()
    token = f"orphan-{os.getpid()}"
    script = tmp_path / "caller.py"  # not `python -c`, whose command line would have the token in it
    program = sleeper(token) + "import time; time.sleep(60)"
    script.write_text(f"from generate.sandbox import run_python\nrun_python({program!r})")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], env=environment) as caller:
        assert wait_for(token, alive=True)
        caller.kill()
    assert wait_for(token, alive=False)


def test_a_program_has_stdin_stdout_and_stderr_alone() -> None:
    listing = "import os\nfor n in range(256):\n    try: os.fstat(n); print(n)\n    except OSError: pass"
    assert run(listing).stdout.split() == ["0", "1", "2"]


@pytest.mark.parametrize(
    "report", [b"ready\n\xff\xfe", b"ready\nexit", b"ready\nexit x y\n", b"ready\nexit " + b"9" * 5000]
)
def test_an_unreadable_report_is_the_program_s_own_failure(report: bytes) -> None:
    assert sandbox._result(b"", b"", report, sandbox.DEFAULTS) == Result(-9, "", "", timed_out=False, reason="")


def test_other_files_among_the_system_s_libraries_are_not_shown() -> None:
    others = [path for path in Path("/usr/lib").iterdir() if "linux-gnu" not in path.name and path.is_dir()]
    if not list(Path("/usr/lib").glob("*-linux-gnu")):
        pytest.skip("needs Debian's layout of libraries")
    assert attempts(others, "os.stat(path)").stdout.splitlines() == [f"missing {path}" for path in others]


def test_a_program_cannot_forge_how_it_ended() -> None:
    forge = "import os\nfor fd in range(3, 128):\n    try: os.write(fd, b'exit 0 0\\n')\n    except OSError: pass\n"
    assert run(forge + "os._exit(5)") == Result(5, "", "", timed_out=False, reason="")
