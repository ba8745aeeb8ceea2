"""What training teaches, as scoring reads it: a completion goes through the chat template and the tokenizer, and back.

A template may put an empty block of thoughts or the name of a channel before the reply. A student learns to write it,
and a scorer that reads the reply alone calls every answer wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from synthloop.chat import SWITCHES, completion_ids, end_ids, load_tokenizer, reply_text, turn_text
from synthloop.engines import EngineConfig
from synthloop.errors import UserError
from synthloop.records import Example
from synthloop.task import Task

NUM_ROWS = 16
"""Rows that are looked at; chosen, not measured: a template does the same to all."""


def refuse_unlearnable(config: EngineConfig, task: Task, examples: Sequence[Example]) -> None:
    """Raise `UserError` for examples that the student's template refuses, drops a turn of or renders differently, and
    where a student that has learned the completions by heart would be called wrong.

    Not for one that is served elsewhere, under a name that need not be a model's.
    """
    if getattr(config, "base_urls", ()):
        return
    tokenizer, kwargs = load_tokenizer(config.tokenizer or config.model, config.revision), config.chat_template_kwargs
    told = [f"example {example.id}: {mistake}" for example, mistake in refused(tokenizer, examples, kwargs)]
    if not told and (mistake := lost_score(tokenizer, task, examples, kwargs)) is not None:
        told = [mistake]
    if told:
        raise UserError("\n".join(told))


def refused(tokenizer: Any, examples: Sequence[Example], kwargs: dict[str, Any]) -> Iterator[tuple[Example, str]]:
    """(example, mistake) of conversations that cannot be learned, one of each kind: the template looks at the roles."""
    kinds: dict[tuple[str, ...], Example] = {}
    for example in examples:
        kinds.setdefault(tuple(turn["role"] for turn in example.messages), example)
    for example in kinds.values():
        try:
            turn_text(tokenizer, example.messages, example.completion, **kwargs)
        except UserError as error:
            yield example, str(error)


def lost_score(tokenizer: Any, task: Task, examples: Sequence[Example], kwargs: dict[str, Any]) -> str | None:
    """What happens to the first completion that is right as it stands and wrong as it is learned, and what to set;
    None where there is none, or a judge scores. Raises `UserError` where the template refuses a conversation or has no
    end."""
    for example in examples[:NUM_ROWS]:
        learned = _learned(tokenizer, example, kwargs)
        if task.judge_role is None and _is_lost(task, example, learned):
            return (
                f"the chat template of '{tokenizer.name_or_path}' has the completion {example.completion[:80]!r} "
                f"learned as {learned[:120]!r}, which the task's scorer calls wrong: a student that has learned "
                f"everything would be scored 0. {_remedy(tokenizer, task, example, kwargs)}"
            )
    return None


def _learned(tokenizer: Any, example: Example, kwargs: dict[str, Any]) -> str:
    ids = completion_ids(tokenizer, example.messages, example.completion, **kwargs)
    return reply_text(tokenizer, ids, end_ids(tokenizer, **kwargs))


def _is_lost(task: Task, example: Example, learned: str) -> bool:
    """Whether the scorer calls the completion right and what is learned of it wrong."""
    if learned.strip() == example.completion.strip():
        return False
    return task.score(example, example.completion).correct and not task.score(example, learned).correct


def _remedy(tokenizer: Any, task: Task, example: Example, kwargs: dict[str, Any]) -> str:
    """The variable of the template that mends it, where one is known; else what to change in the template."""
    for name in SWITCHES:
        tried = {**kwargs, name: False}
        if name in str(tokenizer.chat_template) and not _is_lost(task, example, _learned(tokenizer, example, tried)):
            return f"Set `student.chat_template_kwargs: {{{name}: false}}`."
    return (
        "Change the template, so that it writes nothing around an assistant's text but what its generation prompt has "
        "written already and special tokens of the tokenizer."
    )
