"""Text that can be stored: what every file, database and hash of a run can hold.

A Python string can hold half of a surrogate pair, such as JSON's `"\\ud83d"` where a server cut an emoji in two. UTF-8
has no bytes for it, so that it would end the stage that writes it, long after it came in. It is replaced where text
enters: replies of engines, output of programs.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def storable(text: str) -> str:
    """`text` with each half of a surrogate pair replaced by U+FFFD; everything else stays as it is."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def _storable(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


StorableText = Annotated[str, BeforeValidator(_storable)]
"""The type of a record's field that holds text from outside."""
