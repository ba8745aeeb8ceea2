"""The frame of every stage's `main`: exit codes, messages instead of tracebacks, logging to stderr."""

from __future__ import annotations

import argparse
import ctypes
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from synthloop.errors import SynthloopError, UserError
from synthloop.store import Run

INTERRUPTED = 130
WARNING = "warning: "
"""Begins a line of a stage's log that a person should see without opening it."""
PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""


def stage_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the two options every stage has: `--run DIR --round N`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="run directory, as made by `synthloop run`")
    parser.add_argument("--round", type=int, help="round number; 0 is the untouched student")
    return parser


def open_run(arguments: argparse.Namespace) -> Run:
    """The run named by `--run`. Raises `UserError` where `--run` or `--round` is missing."""
    if arguments.run is None or arguments.round is None:
        raise UserError("expected --run DIR --round N, for example --run runs/quickstart --round 1.")
    return Run(arguments.run)


def run_child(main: Callable[[argparse.Namespace], None], *, parser: argparse.ArgumentParser) -> None:
    """Parse the command line, call `main`, exit with the code DESIGN section 8 gives.

    A `SynthloopError` is shown as one message; a full disk and an interrupt say that the run can be resumed. Anything
    else is a bug and keeps its traceback.
    """
    die_with_parent()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=os.environ.get("SYNTHLOOP_LOG", "INFO"), handlers=[handler])
    for noisy in ("httpx", "urllib3", "filelock", "absl", "accelerate", "datasets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        main(parser.parse_args())
    except SynthloopError as error:
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("Interrupted. The state is saved; the same command resumes.", INTERRUPTED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        fail(f"The disk is full ({error}). Free some space; the same command resumes.", 4)


class _Formatter(logging.Formatter):
    """The message alone; before a warning of this project's own, the mark by which the loop shows it on screen too."""

    def format(self, record: logging.LogRecord) -> str:
        own = record.name.startswith("synthloop") and record.levelno >= logging.WARNING
        return (WARNING if own else "") + super().format(record)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, so that a killed loop leaves no stage writing behind it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def fail(message: str, code: int) -> None:
    """Print `message` to stderr and exit with `code`."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(code)
