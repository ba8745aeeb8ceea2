"""Runs Python that a model wrote, where it can do no harm.

    >>> run_python("print(6 * 7)")
    Result(exit_code=0, stdout='42\\n', stderr='', timed_out=False, reason='')

The program gets the standard library, an empty folder /scratch in memory, and nothing else: no network, no file of this
machine but the Python installation and the system's shared libraries, no process but its own, no environment variable
of ours. When `run_python` returns, everything it started is dead and everything it wrote is gone. How each guarantee is
kept is told in `generate/_confine.py`; `require` tries them all once, and nothing runs where one does not hold.

A result depends on the program and its input only, not on paths, process ids, hash seeds or addresses of this machine,
as it goes into prompts that are keys of the journal. Programs that read the clock, race or use true randomness vary.

Limits: the kernel is shared, so a hole in Linux itself is a hole in the sandbox. Needs Linux 5.14 with user namespaces.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from synthloop.errors import UserError

CONFINE = Path(__file__).with_name("_confine.py")
PROBE = Path(__file__).with_name("_probe.py")
_NAME = re.compile(r"((?!\.+(/|$))[\w.-]{1,100}(/(?!$)|$)){1,10}", re.ASCII)
"""A plain relative path: no part of dots only, no empty part."""
_EXIT = re.compile(r"^exit (-?\d{1,3}) (\d+\.\d+)$", re.MULTILINE | re.ASCII)
GRACE_S = 10.0
"""Given on top of the wall limit to set up and to kill, before the warden itself is killed (chosen, not measured)."""


class Limits(BaseModel):
    """What one program may use. `cpu_s` holds for each process, the others for all of them together.

    A process that asks for more than `memory_mb` gets a MemoryError; several that together hold more are killed.
    `num_processes` counts threads too. `scratch_mb` holds the program and its stdin as well; where they are larger it
    does not run. `output_kb` holds for stdout and stderr each. Defaults are chosen, not measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    wall_s: float = Field(default=20.0, gt=0)
    cpu_s: int = Field(default=10, gt=0)
    memory_mb: int = Field(default=512, ge=64)
    num_processes: int = Field(default=16, gt=0)
    scratch_mb: int = Field(default=32, gt=0)
    output_kb: int = Field(default=64, gt=0)


class Result(NamedTuple):
    """How a program ended. `exit_code` is -N after signal N. `reason` names the limit that ended it, if one did."""

    exit_code: int
    stdout: str
    stderr: str
    timed_out: bool
    reason: str

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and not self.reason


DEFAULTS = Limits()


def run_python(
    code: str, *, stdin: str = "", files: Mapping[str, str] | None = None, limits: Limits = DEFAULTS
) -> Result:
    """Run `code` as /scratch/main.py, beside `files` (path relative to /scratch -> text), which it can import.

    Raises:
        UserError: this machine cannot confine it (`require`).
        ValueError: a file's name is not a plain relative path.
        OSError: setting up failed although it works here (for example, too many namespaces are in use).
    """
    files = files or {}
    for name in files:
        if not _NAME.fullmatch(name) or name == "main.py":
            raise ValueError(f"{name!r} is no name for a file beside main.py.")
    require()
    num_bytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in (code, stdin, *files.values()))
    if num_bytes > limits.scratch_mb * 2**20:
        return _result(b"", b"", b"ready\nlimit scratch\n", limits)
    return _run(code, stdin, files, limits)


@functools.cache
def require() -> None:
    """Raise `UserError` unless a hostile program, tried once per process, is held by every guarantee."""
    try:
        broken = _probe()
    except OSError as error:
        broken = str(error)
    if broken:
        raise UserError(
            f"Model-written code cannot be confined on this machine: {broken}.\n"
            "Expected Linux 5.14 or newer, on x86_64 or aarch64, with user namespaces. To allow them, as root:\n"
            "  sysctl user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0\n"
            "or start the container with:\n"
            "  docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined\n"
            "Or leave out what runs code: the recipes self_debug and tool_use, and the filter execute."
        )


def _probe() -> str:
    """What does not hold on this machine; an empty text where all does."""
    if sys.platform != "linux":
        return f"it runs {sys.platform}"
    limits = Limits(wall_s=10, cpu_s=5, memory_mb=96, num_processes=4, scratch_mb=2)
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.NamedTemporaryFile() as file:
        job = {"port": server.getsockname()[1], "file": file.name, **limits.model_dump()}
        result = _run(PROBE.read_text(encoding="utf-8"), json.dumps(job), {}, limits)
    if not result.ok:
        return f"the probe ended with {result.exit_code} {result.reason} {result.stderr[-1000:]}"
    if result.stdout.strip():
        return result.stdout.strip()
    if not _run("import time; time.sleep(60)", "", {}, limits.model_copy(update={"wall_s": 0.2})).timed_out:
        return "time is not limited"
    if _run(_HOARD, "", {}, limits).reason != f"memory limit of {limits.memory_mb} MB":
        return "memory of several processes is not limited"
    return ""


_HOARD = """\
import os, time
for _ in range(3):
    if os.fork() == 0:
        break
hoard = b"x" * (60 * 2**20)
time.sleep(2)
"""
"""Four processes of 60 MB each."""


def _run(code: str, stdin: str, files: Mapping[str, str], limits: Limits) -> Result:
    """Run without asking whether this machine confines. Raises `OSError` where setting up fails."""
    python = Path(sys.base_prefix).resolve()
    interpreter = python / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    if Path(os.path.expanduser("~")).resolve().is_relative_to(python):
        raise OSError(f"Python is installed in {python}, which holds the home folder as well")
    job = {"python": str(python), "stdin": stdin, "files": {**files, "main.py": code}, **limits.model_dump()}
    report, report_end = os.pipe()
    try:
        process = subprocess.Popen(
            [str(interpreter), "-I", "-S", str(CONFINE), str(report_end)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[report_end],
            start_new_session=True,
            env={},
        )
    except OSError:
        os.close(report)
        raise
    finally:
        os.close(report_end)
    with process, open(report, "rb", buffering=0) as report_file:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(json.dumps(job).encode())
            stdout, stderr, lines = _collect(process, (process.stdout, process.stderr, report_file), limits)
        finally:
            process.kill()
    return _result(stdout, stderr, lines, limits)


def _collect(process: subprocess.Popen[bytes], streams: Sequence[IO[bytes]], limits: Limits) -> list[bytes]:
    """What `streams` carry until the last process inside is dead, each up to one byte more than the limit.

    At that byte the warden is asked, by SIGTERM, to end the program. A warden that does not end in time is killed.
    """
    most = limits.output_kb * 1024
    texts = {stream.fileno(): bytearray() for stream in streams}
    deadline = time.monotonic() + limits.wall_s + GRACE_S
    with selectors.DefaultSelector() as selector:
        for number in texts:
            selector.register(number, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.1, deadline - time.monotonic()))
            if not ready:
                process.kill()
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                text = texts[key.fd]
                if not data:
                    selector.unregister(key.fd)
                elif len(text) <= most < len(text) + len(data):
                    process.terminate()
                text += data[: most + 1 - len(text)]
    return [bytes(text) for text in texts.values()]


def _result(stdout: bytes, stderr: bytes, report: bytes, limits: Limits) -> Result:
    """Read the report's lines (`generate/_confine.py`). Raises `OSError` where setting up failed."""
    text = report.decode(errors="replace")
    lines = {name: rest for name, _, rest in (line.partition(" ") for line in text.splitlines())}
    if "error" in lines or "ready" not in lines:
        told = lines.get("error") or stderr[-1000:].decode(errors="replace")
        raise OSError(told or "the process that sets it up died")
    most = limits.output_kb * 1024
    ended = _EXIT.search(text)  # a program can have its own init killed
    exit_code, cpu_s = (int(ended[1]), float(ended[2])) if ended else (-signal.SIGKILL, 0.0)
    signalled = exit_code == -signal.SIGXCPU  # or killed a second later, where it ignored that
    limit = lines.get("limit")
    if max(len(stdout), len(stderr)) > most:  # also where the program ended before it was killed: else a race decides
        limit = "output"
    elif not limit and (signalled or (exit_code == -signal.SIGKILL and cpu_s >= limits.cpu_s)):
        limit = "CPU"
    amounts = {
        "wall": f"{limits.wall_s:g} s",
        "CPU": f"{limits.cpu_s} s",
        "memory": f"{limits.memory_mb} MB",
        "output": f"{limits.output_kb} KB",
        "scratch": f"{limits.scratch_mb} MB",
    }
    return Result(
        exit_code=-signal.SIGKILL if limit else exit_code,
        stdout=stdout[:most].decode(errors="replace"),
        stderr=stderr[:most].decode(errors="replace"),
        timed_out=limit in ("wall", "CPU"),
        reason=f"{limit} limit of {amounts[limit]}" if limit else "",
    )
