"""A chat template rendered without transformers: what `check` needs to see, in milliseconds.

transformers renders templates in Jinja's sandbox with a few additions, which are the same here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from synthloop.errors import UserError
from synthloop.records import Message

SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
_shown: list[datetime] = []
"""The time that templates are told in this process, once there is one."""


def show_time(moment: datetime) -> None:
    """From now on templates that read the clock are told `moment`, so that a run sees one date to its end."""
    _shown[:] = [moment]


@contextmanager
def one_time() -> Iterator[None]:
    """Templates are told one time, now, until the end: two renderings differ by what is rendered alone."""
    told = list(_shown)
    _shown[:] = told or [datetime.now()]
    try:
        yield
    finally:
        _shown[:] = told


def strftime_now(format: str) -> str:
    """What transformers gives templates under this name: the time by a format of strftime's."""
    return (_shown[0] if _shown else datetime.now()).strftime(format)


DIRECTIVES = ("-d", "-m", "-I", "-H", *"aAbBcdDeFGHIjklmMpPrRsSTuUVwWxXyYzZ")
"""Of strftime, those a template may ask for."""


def with_fixed_time(source: str) -> str:
    """The template `source` for a server that renders it: it tells itself the time that templates are told here."""
    told = "".join(f".replace({'%' + one!r}, {strftime_now('%' + one)!r})" for one in DIRECTIVES)
    # The newline is the one that `trim_blocks` takes away.
    return "{% macro strftime_now(format) %}{{ format" + told + " }}{% endmacro %}\n" + source


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, with which transformers finds the assistant's tokens; the text is that between the marks."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate(NamedTuple):
    """A template and the special tokens it may use."""

    source: str
    tokens: tuple[tuple[str, str], ...]

    def render(self, messages: Sequence[Message], *, generation_prompt: bool, **kwargs: Any) -> str:
        """The text of `messages`. Raises `UserError` with the template's own words where it refuses them."""
        given = {**dict(self.tokens), "tools": None, "documents": None, **kwargs}
        try:
            return _compiled(self.source).render(
                messages=[dict(turn) for turn in messages], add_generation_prompt=generation_prompt, **given
            )
        except Exception as error:
            roles = ", ".join(turn["role"] for turn in messages)
            raise UserError(f"the chat template refuses turns of {roles}: {error}") from error


@cache
def _compiled(source: str) -> jinja2.Template:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.globals |= {"raise_exception": _refuse, "strftime_now": strftime_now}
    environment.filters["tojson"] = lambda value, indent=None, **_: json.dumps(value, ensure_ascii=False, indent=indent)
    return environment.from_string(source)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """The chat template of the tokenizer in a folder, from its own file or from tokenizer_config.json; None without.

    Raises:
        UserError: one of those files is not readable.
    """
    config = read_object(folder / "tokenizer_config.json")
    own, source = folder / "chat_template.jinja", config.get("chat_template")
    if own.is_file():
        source = own.read_text(encoding="utf-8")
    if isinstance(source, list):  # several, by name
        source = next((one.get("template") for one in source if one.get("name") == "default"), None)
    if not isinstance(source, str):
        return None
    tokens = {name: config.get(name) for name in SPECIAL_TOKENS}
    texts = {name: one["content"] if isinstance(one, dict) else one for name, one in tokens.items()}
    return ChatTemplate(source, tuple((name, text) for name, text in texts.items() if isinstance(text, str)))


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model folder; empty where there is no such file. Raises `UserError`."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} should hold a JSON object, found a {type(value).__name__}.")
    return value
