"""`check`, of recipes: their prompt files, and a rehearsal of each on the config's own rows, without a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from synthloop import plugins, problems
from synthloop.check_data import Rows
from synthloop.check_models import dropped_turns, template_kwargs, tokenizer_of
from synthloop.config import Config, RecipeRef
from synthloop.errors import UserError
from synthloop.records import Example, Request
from synthloop.task import Task, make_example

PROMPT_REMEDY = "Write the prompt without that turn, as a file of the same name in `generate.prompts`"
DRY_RUN = "generate.dry_run"
_SHOWS_INPUT = re.compile(r"\b((?:\w+\.)*(?:example|one|candidate|first|second))\.input\b")
NUM_FAILED = 8
"""Rows that stand for failures of the student; chosen, not measured."""


@dataclass(frozen=True)
class Rehearsal:
    """What each recipe asked, by conversation, and what is wrong with it."""

    requests: list[list[list[Request]]] = field(default_factory=list)
    mistakes: tuple[str, ...] = ()


def prompt_files(config: Config) -> Iterator[str]:
    """Files of `generate.prompts` that are no templates."""
    folder = config.generate.prompts
    if folder is not None and folder.is_dir():
        yield from (f"'generate.prompts': {one}" for one in plugins.stage_module(DRY_RUN).syntax_mistakes(folder))


def rehearse(config: Config, rows: Rows) -> Rehearsal:
    """Play each recipe on rows of the task; not those whose settings are wrong, which is said elsewhere.

    Where the rows are not local a made-up one stands in: then only what prompts lack counts, and no request.
    """
    real = rows.splits.get("train") or rows.published.get("train") or []
    train = real or (_made_up(rows.task) if rows.task and rows.hub else [])
    failed = rows.splits.get(config.generate.failures_from) or train
    prompts = config.generate.prompts
    if not train or (prompts is not None and not prompts.is_dir()):
        return Rehearsal()
    requests: list[list[list[Request]]] = []
    mistakes: list[str] = []
    for index, recipe in enumerate(config.generate.recipes):
        if not _is_ready(config, recipe):
            continue
        played = plugins.stage_module(DRY_RUN).play(config, recipe, train, failed[:NUM_FAILED])
        requests.append(played.requests)
        if played.mistake is not None and (real or played.is_told):
            mistakes.append(f"'generate.recipes.{index}' ({recipe.name}), in its rehearsal: {played.mistake}")
    mistakes += _last_turns_alone(config, [*train, *failed], rows.task)
    mistakes += _refused_turns(config, [one for recipe in requests for talk in recipe for one in talk])
    return Rehearsal(requests if real else [], tuple(dict.fromkeys(mistakes)))


def _last_turns_alone(config: Config, real: list[Example], task: Task | None) -> Iterator[str]:
    """The user's prompt files that show rows by their `input`, where that is the last turn of a conversation."""
    system = task.config.system if task else None
    talks = sum(problems.shown(one, system) != one.input for one in real)
    for path in sorted(config.generate.prompts.glob("*.jinja")) if config.generate.prompts and talks else ():
        if (found := _SHOWS_INPUT.search(path.read_text(encoding="utf-8", errors="replace"))) is not None:
            yield (
                f"'generate.prompts': {path} shows {found.group()}, and {talks} of {len(real)} rows are conversations "
                f"of which that is the last turn alone. Write {{{{ {found.group(1)} | conversation(task_system) }}}}."
            )


def _made_up(task: Task) -> list[Example]:
    """Rows that are like no task's; none where the task's prompt cannot be rendered without its data."""
    try:
        return [make_example(task.config, input=f"Row {n}?", completion=f"{n}", answer=f"{n}") for n in range(4)]
    except Exception:  # noqa: BLE001 - a task of a user's is their program, and this is not its data
        return []


def _is_ready(config: Config, recipe: RecipeRef) -> bool:
    """Whether the recipe, every role it names and every file has settings that are right."""
    try:
        settings = plugins.configure("recipe", recipe.name, recipe.settings)
        for role in {"teacher", *plugins.roles_of(settings).values()}:
            for member in config.committee(role):
                member.engine_config()
    except (UserError, ValidationError):
        return False
    return all(path.exists() for path in plugins.paths_of(settings).values())


def _refused_turns(config: Config, requests: list[Request]) -> Iterator[str]:
    """Prompts of recipes whose turns the asked model's template refuses or drops; each kind of prompt once."""
    seen: set[Any] = set()
    for request in requests:
        kind = (request.role, tuple(turn["role"] for turn in request.messages))
        if kind in seen or not request.messages:
            continue
        seen.add(kind)
        for role in config.committee(request.role):
            asked = config.student if role.is_student else role
            try:
                tokenizer = tokenizer_of(asked)
            except UserError:
                continue  # said by `check_models`
            if tokenizer is not None:
                found = dropped_turns(tokenizer, request.messages, template_kwargs(asked), PROMPT_REMEDY)
                yield from (f"'roles.{request.role}', asked by a recipe: {one}" for one in found)
