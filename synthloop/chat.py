"""Messages to token ids: the one place, so that training, evaluation and generation see the same prompt.

A prompt is the chat template with `add_generation_prompt=True`. A completion is what the template adds when the
assistant's turn is appended, and the token that ends a reply where the template adds none. It is tokenised as it
follows the prompt at inference, so the ids of a prompt are always a prefix of the ids of the full conversation.

A turn ends where the template ends it: the token that closes a completion need not be the tokenizer's own end token,
and engines stop there all the same (`turn_end`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jinja2

from synthloop.chat_template import strftime_now
from synthloop.errors import UserError
from synthloop.records import Message

SWITCHES = ("enable_thinking", "thinking")
"""Variables by which templates are told not to write thoughts."""
_WORD = "Placeholder"
"""Stands for a reply or a turn, to see what a template makes of one whatever it says."""


def load_tokenizer(model: str, revision: str | None = None) -> Any:
    """The model's tokenizer, with a chat template.

    Raises:
        UserError: the folder has no tokenizer, or the tokenizer has no chat template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"No tokenizer could be loaded from '{model}': {str(error).splitlines()[0]}\n"
            "Expected tokenizer.json or a hub id with one. Copy the tokenizer's files into the folder, or set "
            "`tokenizer:` beside `model:`."
        ) from error
    if not tokenizer.chat_template:
        raise UserError(
            f"The tokenizer of '{model}' has no chat template. Add `chat_template.jinja` to its folder, or use an "
            "instruction-tuned model."
        )
    return tokenizer


def prompt_text(tokenizer: Any, messages: Sequence[Message], **template_kwargs: Any) -> str:
    """The rendered prompt, generation prompt included. Raises `UserError` for a turn that it refuses or drops."""
    text = _render(tokenizer, messages, add_generation_prompt=True, **template_kwargs)
    if dropped := _dropped(*_kind(tokenizer, messages, template_kwargs)):
        raise UserError(
            f"The chat template of '{tokenizer.name_or_path}' drops the {' and the '.join(dropped)} turn of the turns "
            f"{_roles(messages)}: the model would not see it. Give the turn a role that the template renders."
        )
    return text


def _kind(
    tokenizer: Any, messages: Sequence[Message], template_kwargs: dict[str, Any]
) -> tuple[Any, str, tuple[str, ...], str]:
    """What a template goes by beside the words of a conversation."""
    roles = tuple(turn["role"] for turn in messages)
    return tokenizer, str(tokenizer.chat_template), roles, json.dumps(template_kwargs, sort_keys=True, default=str)


@lru_cache(maxsize=4096)
def _dropped(tokenizer: Any, template: str, roles: tuple[str, ...], template_kwargs: str) -> tuple[str, ...]:
    """The roles of turns that vanish whatever they say; a template may trim a text, or take thoughts out of it."""
    turns = _placeholders(roles)
    text = _render(tokenizer, turns, add_generation_prompt=True, **json.loads(template_kwargs))
    return tuple(dict.fromkeys(turn["role"] for turn in turns if turn["content"] not in text))


def _placeholders(roles: Sequence[str]) -> list[Message]:
    """A turn of each role, with words that stand in no other."""
    return [Message(role=role, content=f"{_WORD}-{index}-of-{len(roles)}") for index, role in enumerate(roles)]


def prompt_ids(tokenizer: Any, messages: Sequence[Message], **template_kwargs: Any) -> list[int]:
    """Token ids of the prompt. Special tokens come from the template alone."""
    ids: list[int] = tokenizer(prompt_text(tokenizer, messages, **template_kwargs), add_special_tokens=False)[
        "input_ids"
    ]
    return ids


def completion_ids(tokenizer: Any, messages: Sequence[Message], completion: str, **template_kwargs: Any) -> list[int]:
    """Token ids of the assistant's turn after `messages`, its end-of-turn token included.

    A template that writes nothing behind the last turn (GLM's: its end is the next turn's beginning) would teach a
    student never to stop, so the tokenizer's end token, at which engines stop, is put there.

    Raises:
        UserError: the template renders the conversation so that it does not start with the prompt, drops the
            assistant's turn, or closes no turn and the tokenizer has no end token.
    """
    prompt, text = turn_text(tokenizer, messages, completion, **template_kwargs)
    ids = _ids_after(tokenizer, prompt, text)
    if _closing(*_kind(tokenizer, messages, template_kwargs)):
        return ids
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"The chat template of '{tokenizer.name_or_path}' closes no turn and its tokenizer has no end token, so a "
            "student would never learn to stop. Set eos_token in tokenizer_config.json."
        )
    return [*ids, int(tokenizer.eos_token_id)]


def turn_end(tokenizer: Any, **template_kwargs: Any) -> int | None:
    """The token with which the template closes a turn, where that is not the tokenizer's own end token: engines have to
    be told to stop there."""
    with contextlib.suppress(UserError):  # a model that is only asked may have a template that writes no reply
        closing = _closing(*_kind(tokenizer, [Message(role="user", content="")], template_kwargs))
        return next((id for id in closing[:1] if id != tokenizer.eos_token_id), None)
    return None


def end_ids(tokenizer: Any, **template_kwargs: Any) -> list[int]:
    """The tokens at which a reply ends: the tokenizer's own end token, and `turn_end`."""
    ends = (tokenizer.eos_token_id, turn_end(tokenizer, **template_kwargs))
    return [int(one) for one in ends if one is not None]


def reply_text(tokenizer: Any, ids: Sequence[int], ends: Sequence[int]) -> str:
    """The text of a completion's `ids` as an engine that stops at `ends` gives it back."""
    length = next((place for place, id in enumerate(ids) if id in ends), len(ids))
    text: str = tokenizer.decode(list(ids[:length]), skip_special_tokens=True)
    return text


@lru_cache(maxsize=4096)
def _closing(tokenizer: Any, template: str, roles: tuple[str, ...], template_kwargs: str) -> tuple[int, ...]:
    """The tokens with a name of their own (`<|im_end|>`) that the template writes behind a reply: those that are
    special where there are any, in order. White space is no name. Raises `UserError` where it drops the reply."""
    turns = _placeholders([*roles, "assistant"])
    _, found, behind = _render(tokenizer, turns, **json.loads(template_kwargs)).rpartition(turns[-1]["content"])
    if not found:
        raise UserError(
            f"The chat template of '{tokenizer.name_or_path}' drops the assistant's turn of the turns {_roles(turns)}, "
            "so there is nothing to learn. Fix the template."
        )
    special = {id: one.special for id, one in tokenizer.added_tokens_decoder.items() if one.content.strip()}
    ids = [id for id in tokenizer(behind, add_special_tokens=False)["input_ids"] if id in special]
    return tuple([id for id in ids if special[id]] or ids)


def _ids_after(tokenizer: Any, prompt: str, text: str) -> list[int]:
    """Token ids of `text` as it follows `prompt`.

    A tokenizer that puts a space before what it is given (SentencePiece's kind) would put one before the first word,
    which no model generates: there the whole is tokenised, and the prompt's ids are taken off.
    """
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if tokenizer.tokenize("x")[0].startswith("x"):
        return ids
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    whole: list[int] = tokenizer(prompt + text, add_special_tokens=False)["input_ids"]
    # Where the prompt's last token merges with the first of the text, the model still starts from the prompt's own.
    return whole[len(before) :] if whole[: len(before)] == before else ids


def turn_text(tokenizer: Any, messages: Sequence[Message], completion: str, **template_kwargs: Any) -> tuple[str, str]:
    """The rendered prompt, and what the assistant's turn adds to it. Raises `UserError` where it adds to another."""
    prompt = prompt_text(tokenizer, messages, **template_kwargs)
    turns = [*messages, Message(role="assistant", content=completion)]
    conversation = _render(tokenizer, turns, **template_kwargs)
    if not conversation.startswith(prompt):
        raise UserError(
            "The chat template renders the assistant's turn differently in training and in generation: the prompt ends "
            f"{prompt[-40:]!r}, the conversation has {conversation[: len(prompt)][-40:]!r} there. "
            f"{_remedy(tokenizer, messages, completion, template_kwargs)}"
        )
    return prompt, conversation[len(prompt) :]


def _remedy(tokenizer: Any, messages: Sequence[Message], completion: str, template_kwargs: dict[str, Any]) -> str:
    """The variable of the template that keeps it from writing thoughts of its own, where one does."""
    for name in SWITCHES:
        if name in str(tokenizer.chat_template) and name not in template_kwargs:
            with contextlib.suppress(UserError):
                turn_text(tokenizer, messages, completion, **template_kwargs, **{name: False})
                return f"Set `chat_template_kwargs: {{{name}: false}}` beside `model`."
    return "Fix the template."


def conversation_text(tokenizer: Any, messages: Sequence[Message], **template_kwargs: Any) -> str:
    """The rendered turns, the last of them the assistant's. Raises `UserError` where the template refuses them."""
    return _render(tokenizer, messages, **template_kwargs)


def _render(tokenizer: Any, messages: Sequence[Message], **options: Any) -> str:
    """Raises `UserError` where the template refuses the turns."""
    options = {"strftime_now": strftime_now, **options}
    try:
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, **options)
    except jinja2.TemplateError as error:
        raise UserError(
            f"The chat template of '{tokenizer.name_or_path}' refuses the turns {_roles(messages)}: {error}. Where it "
            "refuses the system turn, put the instruction into `task.prompt` and leave `task.system` out; else fix "
            "the template."
        ) from error
    return text


def _roles(messages: Sequence[Message]) -> str:
    return ", ".join(turn["role"] for turn in messages)
