"""Passwords and keys: refused where a config would carry them into files, left out of every message.

A config is written into the run directory and sent to W&B, so a secret is named in it by the environment variable that
holds it, never given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_NAMES = "api_?key|token|hf_token|hub_token|auth_token|use_auth_token|access_token|password|secret|authorization"
_SETTING = re.compile(_NAMES, re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/?#\s@]+@")
_QUERY = re.compile(rf"(?<=[?&])({_NAMES}|key)=[^&#\s'\"]+", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """`text` with the user and password, and the keys in the query, of each URL in it hidden."""
    return _QUERY.sub(r"\1=[hidden]", _USER.sub("[hidden]@", text))


def find_credentials(value: Any, path: str = "") -> Iterator[str]:
    """Where settings hold a secret: a setting with such a name, or a URL with a password or key in it."""
    if isinstance(value, dict):
        for name, one in value.items():
            inner = f"{path}.{name}" if path else str(name)
            if isinstance(one, str) and one and _SETTING.fullmatch(str(name)):
                yield inner
            else:
                yield from find_credentials(one, inner)
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            yield from find_credentials(one, f"{path}.{index}")
    elif isinstance(value, str) and not re.search(r"\s", value) and without_credentials(value) != value:
        yield path
