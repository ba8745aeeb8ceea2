"""Where whoever uses an adapter or a merged model has to stop: at the token with which its chat template ends a turn.

The engines of a run are told by themselves (`chat.turn_end`). Others read `generation_config.json`: it is written where
the base model's own would run past the end of a turn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthloop.chat import turn_end


def end_tokens(model: Any, tokenizer: Any, template_kwargs: dict[str, Any]) -> list[int] | None:
    """The model's own end tokens and the template's; None where the template ends a turn with one of the model's or of
    the tokenizer's."""
    given = model.generation_config.eos_token_id
    own = list(given) if isinstance(given, list) else [] if given is None else [given]
    end = turn_end(tokenizer, **template_kwargs)
    return None if end is None or end in own else [*own, end]


def write_ends(model: Any, tokenizer: Any, template_kwargs: dict[str, Any], adapter: Path) -> None:
    """Write `generation_config.json` into the folder of an adapter, where its base model needs another."""
    from transformers import GenerationConfig

    ends = end_tokens(model, tokenizer, template_kwargs)
    if ends is not None:
        GenerationConfig(eos_token_id=ends).save_pretrained(adapter)
