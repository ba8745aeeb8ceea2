"""Text on its way to a screen: what a server, a model or a file wrote must not steer the terminal it is shown on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

SHOWN_CHARACTERS = 400
"""Of a row that is shown to a person; chosen."""

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
# Embeddings, overrides and isolates: a line would read in another order than it is written. Marks (LRM, RLM) stay.
_ESCAPES |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def visible(text: str) -> str:
    """`text` with what steers a terminal written out, ESC as `\\x1b`: C0 (not newline and tab), DEL, C1, reordering."""
    return text.translate(_ESCAPES)


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line to a person (stdout by default), at once."""
    print(visible(text), file=file or sys.stdout, flush=True)


def shortened(text: str) -> str:
    """A text on one line, with quotes; of a long one the beginning and the end."""
    half = SHOWN_CHARACTERS // 2
    return repr(text) if len(text) <= SHOWN_CHARACTERS else f"{text[:half]!r} ... {text[-half:]!r}"


@contextmanager
def warnings_told() -> Iterator[list[str]]:
    """What this project logs meanwhile as a warning; it is printed as ever."""
    texts: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: texts.append(visible(record.getMessage()))  # type: ignore[method-assign]
    logger = logging.getLogger("synthloop")
    logger.addHandler(handler)
    try:
        yield texts
    finally:
        logger.removeHandler(handler)
