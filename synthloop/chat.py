"""Messages to token ids: the one place, so that training, evaluation and generation see the same prompt.

A prompt is the chat template with `add_generation_prompt=True`. A completion is what the template adds when the
assistant's turn is appended, and the token that ends a reply where the template adds none. It is tokenised as it
follows the prompt at inference, so the ids of a prompt are always a prefix of the ids of the full conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2

from synthloop.errors import UserError
from synthloop.records import Message


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
    """The rendered prompt, generation prompt included. Raises `UserError` where the template refuses the turns."""
    return _render(tokenizer, messages, add_generation_prompt=True, **template_kwargs)


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
        UserError: the template renders the conversation so that it does not start with the prompt, or closes no turn
            and the tokenizer has no end token.
    """
    prompt = prompt_text(tokenizer, messages, **template_kwargs)
    turn = Message(role="assistant", content=completion)
    text = continuation(prompt, _render(tokenizer, [*messages, turn], **template_kwargs))
    ids = _ids_after(tokenizer, prompt, text)
    if _is_closed(text, completion):
        return ids
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"The chat template of '{tokenizer.name_or_path}' closes no turn and its tokenizer has no end token, so a "
            "student would never learn to stop. Set eos_token in tokenizer_config.json."
        )
    return [*ids, int(tokenizer.eos_token_id)]


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


def _is_closed(text: str, completion: str) -> bool:
    """Whether the template's `text` of a turn has anything after the reply."""
    reply = completion.strip()
    return bool(text.strip()) if not reply else not text.rstrip().endswith(reply)


def continuation(prompt: str, conversation: str) -> str:
    """What a rendered conversation adds to its rendered prompt. Raises `UserError` where it does not start with it."""
    if not conversation.startswith(prompt):
        raise UserError(
            "The chat template renders the assistant's turn differently in training and in generation: the prompt ends "
            f"{prompt[-40:]!r}, the conversation has {conversation[: len(prompt)][-40:]!r} there. Fix the template."
        )
    return conversation[len(prompt) :]


def _render(tokenizer: Any, messages: Sequence[Message], **options: Any) -> str:
    """Raises `UserError` where the template refuses the turns."""
    try:
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, **options)
    except jinja2.TemplateError as error:
        roles = ", ".join(turn["role"] for turn in messages)
        raise UserError(
            f"The chat template of '{tokenizer.name_or_path}' refuses the turns {roles}: {error}. Where it refuses the "
            "system turn, put the instruction into `task.prompt` and leave `task.system` out; else fix the template."
        ) from error
    return text
