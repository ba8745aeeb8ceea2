"""`check`, of data: every local row is read once and split as the run splits it; prompts against the context."""

from __future__ import annotations

import importlib.util
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synthloop import plugins, taught
from synthloop.chat import prompt_text
from synthloop.check_models import student_rows, template_kwargs, tokenizer_of
from synthloop.config import Config, PluginRef
from synthloop.errors import UserError
from synthloop.model_folder import text_config
from synthloop.records import Example, Message
from synthloop.screen import warnings_told
from synthloop.splits import split_rows
from synthloop.task import Task, open_task

PUBLISHED = ("train", "validation", "test")
NUM_LONGEST = 32
"""Of the prompts with most characters this many are tokenised; chosen, not measured."""
CHARACTERS_A_TOKEN = 32
"""More than any tokenizer's mean: of a text, so much for each token of the context is enough to see it is too long."""


@dataclass(frozen=True)
class Rows:
    """What the task gives. `splits` are those of the run; empty where `mistakes` say why, or the rows are not local.

    `warnings` is what the task and the split logged.
    """

    task: Task | None = None
    published: dict[str, list[Example]] = field(default_factory=dict)
    splits: dict[str, list[Example]] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    hub: str | None = None


def read_rows(config: Config) -> Rows:
    """The rows of the task, split by the rule of the run itself, or the mistake that stands against it."""
    if absent := tuple(_absent_files(config.task)):
        return Rows(mistakes=absent)
    try:
        task = open_task(config.task.name, config.task.settings)
    except (UserError, ValidationError):
        return Rows()  # said by the check of plugins
    unread = task.hub or _needs_datasets(task)
    if unread is not None:
        return Rows(task, hub=unread)
    published: dict[str, list[Example]] = {}
    splits: dict[str, list[Example]] = {}
    mistakes: list[str] = []
    with _warnings() as warnings:
        try:
            published.update((name, list(task.load(name))) for name in PUBLISHED)
            if published["train"]:
                splits = split_rows(published, config.splits, config.seed)[0]
            else:
                mistakes.append(f"'{config.task.name}' gives no train rows, and the loop needs real data to train on.")
        except UserError as error:
            mistakes.append(str(error))
    return Rows(task, published, splits, tuple(f"'task': {one}" for one in mistakes), tuple(dict.fromkeys(warnings)))


def _needs_datasets(task: Task) -> str | None:
    """The folder that only the package `datasets` can read, where that is not installed."""
    folder = getattr(task.config, "dataset", None)
    return folder if folder is not None and importlib.util.find_spec("datasets") is None else None


def _absent_files(ref: PluginRef) -> Iterator[str]:
    """Files of a task with a setting for each published split that are not there, whatever else is wrong with it."""
    try:
        known = plugins.load("task", ref.name).Config.model_fields
    except UserError:
        return  # said by the check of plugins
    given, folder = ref.settings, ref.settings.get("path")
    if not known.keys() >= set(PUBLISHED) or (folder is None and given.get("dataset") is not None):
        return
    for split in PUBLISHED:
        named = given.get(split)
        for name in named if isinstance(named, list | tuple) else [named]:
            if isinstance(name, str) and isinstance(folder, str | None):
                file, before_key = (Path(folder or "", one) for one in (name, name.partition("#")[0]))
                if not file.exists() and not before_key.exists():
                    yield f"'task.{split}': no such file {file}. A relative path starts at task.path, or where you are."


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What is logged meanwhile, instead of printed."""
    logger = logging.getLogger("synthloop")
    propagate, logger.propagate = logger.propagate, False
    try:
        with warnings_told() as texts:
            yield texts
    finally:
        logger.propagate = propagate


def row_mistakes(config: Config, rows: Rows) -> Iterator[str]:
    """What is wrong with the rows: they don't parse, a split is empty, held-out rows stand in train."""
    yield from rows.mistakes
    refused = False
    for split, examples in rows.published.items():
        for example, mistake in student_rows(config, examples):
            refused = True
            yield f"'student.model': {_place(rows, split, examples.index(example))}: {mistake}"
    if not refused:
        yield from _lost_scores(config, rows)


def _place(rows: Rows, split: str, index: int) -> str:
    """Where an example comes from: its file and line, where the task knows them."""
    places = getattr(rows.task.module, "places", None) if rows.task else None
    if rows.task is None or places is None:
        return f"example {rows.published[split][index].id} of '{split}'"
    return str(next(itertools.islice(places(rows.task.config, split), index, None)))


def _lost_scores(config: Config, rows: Rows) -> Iterator[str]:
    """A template with which a student that has learned everything would be scored 0."""
    try:
        tokenizer = tokenizer_of(config.student)
        if tokenizer is None or not tokenizer.is_whole or rows.task is None:
            return
        examples = rows.published.get("train", [])
        mistake = taught.lost_score(tokenizer, rows.task, examples, template_kwargs(config.student))
    except UserError as error:
        mistake = str(error)
    if mistake is not None:
        yield f"'student.model': {mistake}"


def long_prompts(config: Config, rows: Rows) -> Iterator[str]:
    """Of the longest prompts, those that leave the student no room to answer."""
    limit, sizes = context(config), prompt_sizes(config, rows)
    over = [(size, row) for size, row in sizes if limit is not None and size >= limit]
    if over:
        size, row = over[0]
        yield (
            f"at least {len(over)} prompts are longer than the student's context: the example {row.id} has at "
            f"least {size} tokens, the context is {limit}. Shorten them, or raise student.args.max_model_len."
        )


def prompt_sizes(config: Config, rows: Rows) -> list[tuple[int, Example]]:
    """(tokens of the prompt, example), the longest first; empty where the student's tokenizer is not at hand."""
    examples = [row for split in rows.published.values() for row in split]
    longest = sorted(examples, key=lambda row: sum(len(turn["content"]) for turn in row.messages), reverse=True)
    count = [(num_tokens(config.student, row.messages, context(config)), row) for row in longest[:NUM_LONGEST]]
    return sorted([(size, row) for size, row in count if size is not None], key=lambda pair: -pair[0])


def num_tokens(role: Any, messages: tuple[Message, ...], limit: int | None = None) -> int | None:
    """Tokens of a prompt as `role` sees it; at least `limit` where it has more. None without a local tokenizer."""
    try:
        tokenizer = tokenizer_of(role)
        if tokenizer is None or not tokenizer.is_whole:
            return None
        text = prompt_text(tokenizer, messages, **template_kwargs(role))
    except UserError:
        return None  # said by `check_models`
    end = None if limit is None else CHARACTERS_A_TOKEN * limit
    return len(tokenizer(text[:end], add_special_tokens=False)["input_ids"])


def context(config: Config) -> int | None:
    """The student's context in tokens: `args.max_model_len`, else the model's own limit; None where unknown here."""
    args = config.student.settings.get("args")
    asked = args.get("max_model_len") if isinstance(args, dict) else None
    try:
        limit = asked if asked is not None else text_config(Path(config.student.model)).get("max_position_embeddings")
    except UserError:
        return None  # said by `check_models`
    return limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None
