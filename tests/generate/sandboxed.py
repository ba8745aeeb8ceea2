"""Programs run under tight limits; the test is skipped, with the reason, where this machine cannot confine them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from generate import sandbox
from generate.sandbox import Limits, Result, run_python
from synthloop.errors import UserError

TIGHT = Limits(wall_s=8, cpu_s=4, memory_mb=128, num_processes=8, scratch_mb=4, output_kb=16)


def can_confine() -> bool:
    """Whether this machine can confine model-written code."""
    try:
        sandbox.require()
    except UserError:
        return False
    return True


def skip_unless_confined() -> None:
    try:
        sandbox.require()
    except UserError as error:
        pytest.skip(str(error))


def run(code: str, *, stdin: str = "", files: Mapping[str, str] | None = None, **limits: float) -> Result:
    """`run_python` with `TIGHT`, except for `limits`."""
    skip_unless_confined()
    return run_python(code, stdin=stdin, files=files, limits=TIGHT.model_copy(update=limits))


def error_line(result: Result) -> str:
    """The last line of stderr: of a traceback, the error."""
    return (result.stderr.strip().splitlines() or [""])[-1]
