"""Text on its way to a screen: what a server, a model or a file wrote must not steer the terminal it is shown on."""

from __future__ import annotations

import sys
from typing import TextIO

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def visible(text: str) -> str:
    """`text` with its control characters (C0, DEL, C1; not newline and tab) written out, ESC as `\\x1b`."""
    return text.translate(_ESCAPES)


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line to a person (stdout by default), at once."""
    print(visible(text), file=file or sys.stdout, flush=True)
