"""The shapes that chat templates of models have, written small, each on the tiny tokenizer.

from tests.shapes import SHAPES, put_on
put_on(folder, SHAPES["chatml"])        a model's folder, whose tokenizer and end tokens are then of that shape
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from tests.tiny import build_tokenizer

OPEN = "{% for m in messages %}"
CLOSE = "{% endfor %}"


class Shape(NamedTuple):
    """A template, the tokens with names that it writes, and the tokenizer's own end token (added where it is new)."""

    template: str
    tokens: tuple[str, ...]
    eos: str | None = "<|pad|>"
    plain: tuple[str, ...] = ()


def _asks(text: str) -> str:
    return "{% if add_generation_prompt %}" + text + "{% endif %}"


ASSISTANT = "<|im_start|>assistant\n"
CHATML = OPEN + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n" + CLOSE
KNOWN_ROLES = "{% if m.role in ['system', 'user', 'assistant'] %}"
SHAPES = {
    # A base model that was given ChatML: its own end token closes no turn.
    "chatml": Shape(CHATML + _asks(ASSISTANT), ("<|im_start|>", "<|im_end|>")),
    "chatml, its own eos": Shape(CHATML + _asks(ASSISTANT), ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    # Tokens that are added and not special stay in a reply's text.
    "end that is not special": Shape(CHATML + _asks(ASSISTANT), ("<|im_start|>",), plain=("<|im_end|>",)),
    # As Qwen3 does, the last turn gets an empty block of thoughts unless it is told not to think.
    "thinks": Shape(
        OPEN + KNOWN_ROLES + "<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}{% if loop.last %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endif %}"
        + CLOSE
        + _asks(
            "<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
            "{% endif %}"
        ),
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        ("<think>", "</think>"),
    ),
    # As GLM's: the end of a turn is the beginning of the next.
    "no end": Shape(
        OPEN + "<|{{ m.role }}|>\n{{ m.content }}" + CLOSE + _asks("<|assistant|>\n"),
        ("<|endoftext|>",),
        "<|endoftext|>",
    ),
    # As gpt-oss: a channel's name stands before the answer, and is left when special tokens are taken out.
    "channel": Shape(
        OPEN + "<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>"
        "{{ m.content }}{% if loop.last and m.role == 'assistant' %}<|return|>{% else %}<|stop|>{% endif %}"
        + CLOSE
        + _asks("<|start|>assistant"),
        ("<|start|>", "<|channel|>", "<|message|>", "<|return|>", "<|stop|>"),
        "<|return|>",
    ),
    # As Gemma's: no system turn, roles that alternate, and texts that are trimmed.
    "no system": Shape(
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + OPEN
        + "{% if (m.role == 'user') == (loop.index0 % 2 > 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
        + CLOSE
        + _asks("<start_of_turn>model\n"),
        ("<start_of_turn>", "<end_of_turn>"),
    ),
    # As Phi-3's: a conversation ends with the tokenizer's end token, behind the one that ends the turn.
    "ends twice": Shape(
        OPEN
        + "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n"
        + CLOSE
        + _asks("<|assistant|>\n")
        + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}",
        (),
    ),
    # As Llama 3.2's: today's date stands in every prompt.
    "dated": Shape(
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "<|header|>system\nToday Date: {{ date_string }}\n<|eot|>"
        + OPEN
        + "<|header|>{{ m.role }}\n{{ m.content | trim }}<|eot|>"
        + CLOSE
        + _asks("<|header|>assistant\n"),
        ("<|header|>", "<|eot|>"),
    ),
}

# As those of models that see: a text is one part of what a turn holds.
PARTS = Shape(
    OPEN
    + "<|{{ m.role }}|>{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
    "<|end|>" + CLOSE,
    (),
    "<|end|>",
)


def tokenizer_of(shape: Shape) -> Any:
    """A tiny tokenizer with the shape's template, tokens and end token."""
    tokenizer = build_tokenizer(320)
    tokenizer.add_tokens(list(shape.tokens), special_tokens=True)
    tokenizer.add_tokens(list(shape.plain))
    tokenizer.eos_token = shape.eos
    tokenizer.chat_template = shape.template
    return tokenizer


def put_on(folder: Path, shape: Shape) -> Path:
    """Give the tiny model in `folder` a tokenizer of this shape, whose end token its configs name."""
    tokenizer = tokenizer_of(shape)
    tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, "eos_token_id": tokenizer.eos_token_id}))
    return folder
