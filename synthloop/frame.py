"""The frame of every command: errors to messages and exit codes, and stages run in the foreground."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from synthloop import plugins
from synthloop.child import shown, start
from synthloop.errors import CollapseStop, UserError, known_error
from synthloop.interrupt import Interrupted, ignore_signals
from synthloop.screen import say, visible


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
