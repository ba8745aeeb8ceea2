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
from types import ModuleType
from typing import Any, NamedTuple

import jinja2
from pydantic import BaseModel, ConfigDict, field_validator

from synthloop import plugins, templates
from synthloop.model_folder import looks_local
from synthloop.records import Example, Message, Score


class TaskConfig(BaseModel):
    """Settings every task has. `prompt` is a Jinja template over `input`; `system` is an optional system turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str | None = None
    prompt: str = "{{ input }}"

    @field_validator("prompt")
    @classmethod
    def _is_template(cls, prompt: str) -> str:
        if (mistake := templates.syntax_error(prompt)) is not None:
            raise ValueError(mistake)
        return prompt

    def variables(self) -> dict[str, Any]:
        """What `prompt` may use beside `input`; a task overrides it. `labels`, if any, are all possible answers."""
        return {}


class Task(NamedTuple):
    """A task plugin with its settings."""

    module: ModuleType
    config: TaskConfig

    @property
    def metric(self) -> str:
        return str(self.module.METRIC)

    @property
    def hub(self) -> str | None:
        """The data set of the hub that the rows come from; None where they are files of this machine."""
        name = getattr(self.config, "dataset", None)
        return None if name is None or looks_local(name) else str(name)

    def load(self, split: str) -> Iterator[Example]:
        loaded: Iterable[Example] = self.module.load(self.config, split)
        return iter(loaded)

    def score(self, example: Example, text: str) -> Score:
        score: Score = self.module.score(self.config, example, text)
        return score

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that every answer is one of, as `prompt` may list them; none where answers are open."""
        return tuple(self.config.variables().get("labels", ()))

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
    return templates.sandbox(keep_trailing_newline=True).from_string(source)


def render_prompt(cfg: TaskConfig, text: str) -> tuple[Message, ...]:
    """The prompt turns the student sees for the raw problem `text`. Raises `UserError` for what the template does."""
    content = templates.render(_template(cfg.prompt), "task.prompt", {"input": text, **cfg.variables()})
    user = Message(role="user", content=content)
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
