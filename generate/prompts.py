"""Prompts: Jinja files rendered to chat turns. `generate.prompts` is looked in first, then `generate/prompts/`.

A line that is only `[system]`, `[user]` or `[assistant]` starts a turn; a file without one is a single user turn.
The marks count in the file alone: a model's reply that contains such a line stays text.

A row's `input` is in a chat its last turn alone. `{{ one | conversation }}` shows the whole problem, `one | dialogue`
gives its turns of user and assistant; both take the text of a system turn to leave out: `task_system` is the task's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

from synthloop import problems, templates
from synthloop.errors import UserError
from synthloop.jsonl import read_text
from synthloop.records import Message

BUILT_IN = Path(__file__).parent / "prompts"

_TURN_LINE = re.compile(r"^\[(system|user|assistant)\][ \t]*$", re.MULTILINE)
# What stands for a turn mark while Jinja runs: half of a surrogate pair, which no text that can be stored holds.
_MARK = "\ud800"
_MARKED_TURN = re.compile(rf"{_MARK}(system|user|assistant){_MARK}\n?")


class Prompts:
    """The prompt files of a run. An undefined variable in one is an error."""

    def __init__(self, folder: Path | None = None) -> None:
        """Raises `UserError` where `folder` is given and not there: the built-in prompts would stand in unnoticed."""
        if folder is not None and not folder.is_dir():
            raise UserError(f"generate.prompts: no folder {folder.absolute()}. A relative path starts where you are.")
        self._folders = [folder, BUILT_IN] if folder else [BUILT_IN]
        self._environment = templates.sandbox(
            loader=jinja2.FunctionLoader(self._source), trim_blocks=True, lstrip_blocks=True
        )
        self._environment.filters.update(conversation=problems.shown, dialogue=problems.dialogue)
        self._environment.globals.update(task_system=None, are_conversations=False)

    def _source(self, name: str) -> str | None:
        for folder in self._folders:
            path = folder / name
            if path.is_file():
                return _TURN_LINE.sub(rf"{_MARK}\1{_MARK}", read_text(path))
        return None

    def render(self, name: str, **variables: Any) -> tuple[Message, ...]:
        """The turns of the prompt file `name`.

        Raises:
            UserError: there is no such file, it is not valid Jinja, names a variable that is not given, or reaches for
                what a template may not have.
        """
        try:
            text = templates.render(self._environment.get_template(name), f"The prompt '{name}'", variables)
        except jinja2.TemplateNotFound as error:
            folders = " or ".join(str(folder) for folder in self._folders)
            raise UserError(f"No prompt '{error.name}' in {folders}.") from error
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"The prompt '{error.name or name}', line {error.lineno}: {error.message}.") from error
        return _turns(text)


def syntax_mistakes(folder: Path) -> Iterator[str]:
    """A sentence for each prompt file in `folder` that is not valid Jinja or not UTF-8."""
    environment = jinja2.Environment()
    for path in sorted(folder.glob("*.jinja")):
        try:
            environment.parse(path.read_text(encoding="utf-8"))
        except jinja2.TemplateSyntaxError as error:
            yield f"{path}, line {error.lineno}: {error.message}."
        except UnicodeDecodeError as error:
            yield f"{path}: not UTF-8 ({error.reason} at byte {error.start})."


def _turns(text: str) -> tuple[Message, ...]:
    head, *rest = _MARKED_TURN.split(text)
    if not rest:
        return (Message(role="user", content=head.strip()),)
    turns = [Message(role=role, content=body.strip()) for role, body in zip(rest[::2], rest[1::2], strict=True)]
    return (Message(role="user", content=head.strip()), *turns) if head.strip() else tuple(turns)
