"""Text on its way to a screen: what a server, a model or a file wrote must not steer the terminal it is shown on."""

from __future__ import annotations

import sys
from typing import TextIO

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
# Embeddings, overrides and isolates: a line would read in another order than it is written. Marks (LRM, RLM) stay.
_ESCAPES |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def visible(text: str) -> str:
    """`text` with what steers a terminal written out, ESC as `\\x1b`: C0 (not newline and tab), DEL, C1, reordering."""
    return text.translate(_ESCAPES)


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line to a person (stdout by default), at once."""
    print(visible(text), file=file or sys.stdout, flush=True)
