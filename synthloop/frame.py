"""The frame of every command: errors to messages and exit codes, the loop with its report, stages in the foreground."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from synthloop import plugins
from synthloop.child import shown, start
from synthloop.errors import CollapseStop, UserError, known_error
from synthloop.interrupt import Interrupted, ignore_signals
from synthloop.screen import say, visible

if TYPE_CHECKING:
    from synthloop.store import Run
    from synthloop.terminal import Terminal


@contextmanager
def user_errors() -> Iterator[None]:
    """The frame of every command: known errors and signals end it with one message and an exit code of the docs."""
    try:
        plugins.refuse_shadows()
        yield
    except Interrupted as error:
        ignore_signals()
        say(f"\n{error}", sys.stderr)
        raise typer.Exit(error.exit_code) from error
    except Exception as error:
        known = known_error(error)
        if known is None:
            raise
        Console(stderr=True).print(
            "error:", visible(str(known)), style="red", highlight=False, markup=False, soft_wrap=True
        )
        if not isinstance(known, UserError | CollapseStop):
            say("The state is saved; the same command resumes.", sys.stderr)
        raise typer.Exit(known.exit_code) from error


def foreground(*commands: list[str], quiet: bool = False) -> None:
    """Run commands one after the other, each shown first, until one fails; exit with the code of the last that ran."""
    for command in commands:
        if not quiet:
            say(f"$ {shown(command)}", sys.stderr)
        with start(command) as child:
            child.wait()
        if child.returncode != 0:
            raise typer.Exit(child.returncode if child.returncode > 0 else 4)


def python(module: str, *arguments: str) -> list[str]:
    """The command line of a module in this Python."""
    return [sys.executable, "-m", module, *arguments]


def run_loop(opened: Run, terminal: Terminal) -> dict[str, Any]:
    """The loop with its tracker. However it ends the report is written, where that is possible."""
    # Not at the top: `--help` answers at once.
    from synthloop import loop, page, report
    from synthloop.tracking import Tracker

    tracker = Tracker(opened)
    try:
        with terminal:
            last = loop.run_loop(opened, terminal, tracker)
    except BaseException:
        try:
            tracker.close()
            page.write(opened, report.write(opened))
        except Exception as error:  # noqa: BLE001 - whatever it is, a person must read what ended the loop
            say(f"The report could not be written: {error}", sys.stderr)
        raise
    tracker.close()
    return last


def write_report(opened: Run, console: Console) -> None:
    """Write report.json and report.html; print the round table, the headline and where the two are."""
    from synthloop import page, report
    from synthloop.terminal import closing_lines, round_table

    written = report.write(opened)
    page.write(opened, written)
    console.print(round_table(written))
    say(f"Report: {opened.root / 'report.json'} and {opened.root / 'report.html'}")
    for line in closing_lines(written):
        console.print(visible(line), highlight=False, markup=False, soft_wrap=True)
