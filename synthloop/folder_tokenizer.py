"""A local folder's tokenizer as `chat` uses one, read without transformers: what `check` needs, in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from synthloop.chat_template import ChatTemplate, read_chat_template
from synthloop.model_folder import load_tokenizer
from synthloop.records import Message


class FolderTokenizer:
    """A chat template with the `tokenizers.Tokenizer` beside it; without one (`is_whole` is False) it renders only.

    A special token that tokenizer_config.json names and the vocabulary lacks gets the next id, as in transformers.
    """

    def __init__(self, folder: Path, template: ChatTemplate, tokenizer: Any) -> None:
        self.name_or_path = str(folder)
        self.chat_template = template.source
        self.is_whole = tokenizer is not None
        self._template = template
        self._tokenizer = tokenizer
        self.special_ids: dict[str, int] = {}
        if self.is_whole:
            named = dict(template.tokens)
            tokenizer.add_special_tokens([text for text in named.values() if tokenizer.token_to_id(text) is None])
            self.special_ids = {name: tokenizer.token_to_id(text) for name, text in named.items()}
        self.eos_token_id = self.special_ids.get("eos_token")

    @cached_property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """Id -> `tokenizers.AddedToken`."""
        added: dict[int, Any] = self._tokenizer.get_added_tokens_decoder() if self.is_whole else {}
        return added

    def apply_chat_template(
        self, messages: Sequence[Message], *, tokenize: bool, add_generation_prompt: bool = False, **options: Any
    ) -> str:
        """The text of `messages`. Raises `UserError` where the template refuses them."""
        assert not tokenize, "use __call__"
        return self._template.render(messages, generation_prompt=add_generation_prompt, **options)

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}

    def tokenize(self, text: str) -> list[str]:
        tokens: list[str] = self._tokenizer.encode(text, add_special_tokens=False).tokens
        return tokens

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def beyond(self, size: int) -> dict[int, str]:
        """Id -> text of the tokens that an embedding of `size` rows has none for: added ones, or the last of the
        vocabulary proper."""
        if not self.is_whole:
            return {}
        last = max(
            ((id, text) for text, id in self._tokenizer.get_vocab(with_added_tokens=False).items()), default=None
        )
        tokens = {id: one.content for id, one in self.added_tokens_decoder.items()}
        return {id: text for id, text in [*tokens.items(), *([last] if last else [])] if id >= size}


def read_tokenizer(folder: Path) -> FolderTokenizer | None:
    """The tokenizer in `folder`; None where it has no chat template. Raises `UserError` for a file it cannot read."""
    template = read_chat_template(folder)
    return None if template is None else FolderTokenizer(folder, template, load_tokenizer(folder))
