"""Child processes: how each is started, and the frame of every stage's `main`."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from synthloop.chat_template import show_time
from synthloop.errors import UserError, known_error
from synthloop.interrupt import Interrupted, held, raise_if_asked
from synthloop.screen import say, visible
from synthloop.store import Run

ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "passive"}
"""For every child, where the user has not set them. OpenMP threads that spin while they wait made a two-thread training
take twenty times as long beside one busy process (docs/measurements.md)."""

PARENT, EXIT_FILE = "SYNTHLOOP_PARENT", "SYNTHLOOP_EXIT_FILE"
"""What a child is told in its environment: who started it, and where to write the exit code of `fail`."""

WARNING = "warning: "
"""Begins a line of a stage's log that a person should see without opening it."""
PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""

_LIBC = ctypes.CDLL(None)  # loaded here, so that nothing is imported between fork and exec


@contextlib.contextmanager
def start(command: list[str], environment: dict[str, str] | None = None, **streams: Any) -> Iterator[Any]:
    """Start a child (the only way this project starts one of its stages), yield its `Popen`, wait for its end.

    No module of the working directory reaches the child or what it starts, be it a user's own `train.py` or `json.py`:
    PYTHONSAFEPATH goes through `accelerate launch` too. What stands on PYTHONPATH is found. The child is told to end
    when the body raises, and dies with this process. Afterwards `returncode` is the code that the stage itself ended
    with, where a launcher turned it into 1.
    """
    parent = os.getpid()
    with open(os.memfd_create("exit code"), "rb") as told:  # in memory: the disk may be full
        fixed = {"PYTHONSAFEPATH": "1", PARENT: str(parent), EXIT_FILE: f"/proc/{parent}/fd/{told.fileno()}"}
        variables = {**ENVIRONMENT, **os.environ, **(environment or {}), **fixed}
        with held():
            process = subprocess.Popen(command, env=variables, preexec_fn=lambda: die_with(parent), **streams)
        with process as child:
            try:
                raise_if_asked()
                yield child
                child.wait()
            except BaseException:
                child.terminate()
                raise
        if child.returncode != 0 and (own := told.read()):
            child.returncode = int(own)


def shown(command: list[str]) -> str:
    """The command line as a person can paste it, in a folder with a `train.py` of their own too."""
    return f"PYTHONSAFEPATH=1 {shlex.join(command)}"


def stage_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the two options every stage has: `--run DIR --round N`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="run directory, as made by `synthloop run`")
    parser.add_argument("--round", type=int, help="round number; 0 is the untouched student")
    return parser


def open_run(arguments: argparse.Namespace) -> Run:
    """The run named by `--run`, whose date chat templates are told from now on. Raises `UserError` where `--run` or
    `--round` is missing."""
    if arguments.run is None or arguments.round is None:
        raise UserError("expected --run DIR --round N, for example --run runs/quickstart --round 1.")
    run = Run(arguments.run)
    if run.started is not None:
        show_time(run.started)
    return run


def run_child(main: Callable[[argparse.Namespace], None], *, parser: argparse.ArgumentParser) -> None:
    """Parse the command line, call `main`, exit with the code DESIGN section 8 gives.

    An error that `known_error` knows is shown as one message; an interrupt says that the run can be resumed. Anything
    else is a bug and keeps its traceback.
    """
    die_with(int(os.environ.get(PARENT, os.getppid())))
    _log_to_stderr()
    try:
        main(parser.parse_args())
    except KeyboardInterrupt:
        interrupted = Interrupted()
        fail(str(interrupted), interrupted.exit_code)
    except Exception as error:
        known = known_error(error)
        if known is None:
            raise
        fail(str(known), known.exit_code)


class _Formatter(logging.Formatter):
    """The message alone; before a warning of this project's own, the mark by which the loop shows it on screen too."""

    def format(self, record: logging.LogRecord) -> str:
        own = record.name.startswith("synthloop") and record.levelno >= logging.WARNING
        return (WARNING if own else "") + visible(super().format(record))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(level=os.environ.get("SYNTHLOOP_LOG", "INFO"), handlers=[handler])
    for noisy in ("httpx", "urllib3", "filelock", "absl", "accelerate", "datasets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def die_with(parent: int) -> None:
    """Have Linux kill this process when its own parent dies; end now where the process `parent` is gone already.

    So a killed loop leaves no stage writing behind it. `parent` may be a grandparent: a launcher stands between the
    loop and a training, and both may be killed before the training has come this far.
    """
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent and not _runs(parent):
            os._exit(1)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # pid (command) state ...; the command may hold anything
            return stat.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def fail(message: str, code: int) -> None:
    """Print `message` to stderr and exit with `code`, of which whoever started this process is told."""
    say(f"error: {message}", sys.stderr)
    if path := os.environ.get(EXIT_FILE):
        with contextlib.suppress(OSError):  # who started it may be gone
            Path(path).write_text(str(code))
    raise SystemExit(code)
