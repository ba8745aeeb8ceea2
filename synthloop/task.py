"""A task: where real examples come from, how they are put to the student, how a reply is scored.

A task plugin (`eval/tasks/<name>.py`) provides

    class Config(TaskConfig)                           its settings
    METRIC = "exact_match"                             the name of the mean score
    load(cfg, split) -> Iterator[Example]              split is 'train', 'validation' or 'test', as published; a split
                                                       that does not exist yields nothing
    score(cfg, example, text) -> Score                 `Score.parsed` is set even where `example.answer` is None
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jinja2
from pydantic import BaseModel, ConfigDict

from synthloop import plugins
from synthloop.errors import UserError
from synthloop.records import Example, Message, Score


class TaskConfig(BaseModel):
    """Settings every task has. `prompt` is a Jinja template over `input`; `system` is an optional system turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str | None = None
    prompt: str = "{{ input }}"

    def variables(self) -> dict[str, Any]:
        """What `prompt` may use beside `input`; a task overrides it (classification: `labels`)."""
        return {}


class Task(NamedTuple):
    """A task plugin with its settings."""

    module: ModuleType
    config: TaskConfig

    @property
    def metric(self) -> str:
        return str(self.module.METRIC)

    def load(self, split: str) -> Iterator[Example]:
        loaded: Iterable[Example] = self.module.load(self.config, split)
        return iter(loaded)

    def score(self, example: Example, text: str) -> Score:
        score: Score = self.module.score(self.config, example, text)
        return score

    @property
    def judge_role(self) -> str | None:
        """The role that scores what the student writes in evaluation; None where `score` does."""
        role = getattr(self.config, "judge", None) if getattr(self.config, "scorer", None) == "judge" else None
        return None if role is None else str(role)

    @property
    def judge_instructions(self) -> str:
        """What the task tells its judge beyond the problem and the reference."""
        return str(getattr(self.config, "judge_instructions", ""))

    def messages(self, text: str) -> tuple[Message, ...]:
        return render_prompt(self.config, text)


def open_task(name: str, settings: dict[str, Any]) -> Task:
    """The task named `name`. Raises `UserError` or `pydantic.ValidationError` on a bad name or settings."""
    return Task(plugins.load("task", name), plugins.configure("task", name, settings))


@cache
def _template(source: str) -> jinja2.Template:
    return jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True).from_string(source)


def render_prompt(cfg: TaskConfig, text: str) -> tuple[Message, ...]:
    """The prompt turns the student sees for the raw problem `text`."""
    variables = {"input": text, **cfg.variables()}
    try:
        user = Message(role="user", content=_template(cfg.prompt).render(variables))
    except jinja2.TemplateSyntaxError as error:
        raise UserError(
            f"task.prompt, line {error.lineno}: {error.message}. Expected Jinja, as in '{{{{ input }}}}'."
        ) from error
    except jinja2.TemplateError as error:
        raise UserError(f"task.prompt: {error.message}. It may use: {', '.join(sorted(variables))}.") from error
    if cfg.system is None:
        return (user,)
    return (Message(role="system", content=cfg.system), user)


def make_example(
    cfg: TaskConfig,
    *,
    input: str,
    completion: str,
    answer: str | None,
    slice: str | None = None,
    meta: dict[str, Any] | None = None,
) -> Example:
    """An example whose id is a hash of its input and completion, so that the same row has the same id everywhere."""
    digest = hashlib.sha256(json.dumps([input, completion]).encode()).hexdigest()[:16]
    return Example(
        id=f"real-{digest}",
        input=input,
        messages=render_prompt(cfg, input),
        completion=completion,
        answer=answer,
        slice=slice,
        meta=meta or {},
    )


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) for every non-blank line of a JSONL file.

    Raises:
        UserError: the file is missing or not UTF-8, or a line is not a JSON object (file and line number are named).
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file. Expected a JSONL file, one JSON object a line.")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise UserError(f"{path}, line {number}: not UTF-8 ({error.reason} at byte {error.start}).") from error
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{path}, line {number}: not valid JSON ({error.msg} at column {error.colno})."
                ) from error
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}.")
            yield number, row
