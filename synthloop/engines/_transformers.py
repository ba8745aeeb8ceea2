"""vLLM's sampling on transformers' `generate`: the same settings, in the same order, over the reply's own tokens.

Transformers has most of them too, and means other things: its penalties count the padding of a batch, a stop string may
begin in the prompt, and what is None is filled from the model's generation_config.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

MIN_TEMPERATURE = 0.01  # what vLLM raises a lower one to (`_MAX_TEMP` in vllm/sampling_params.py of 0.31)


def processors(
    sampling: Mapping[str, Any], prompts: Sequence[Sequence[int]], width: int, end_ids: Sequence[int]
) -> LogitsProcessorList:
    """What turns logits into those that are drawn from, in vLLM's order (vllm/v1/sample/sampler.py of 0.31).

    Args:
        width: tokens of the padded prompts.
        end_ids: what may not be drawn before `min_tokens`.
    """
    found: list[Any] = []
    if sampling["min_tokens"]:
        found.append(MinTokens(width, int(sampling["min_tokens"]), end_ids))
    penalties = [float(sampling[f"{name}_penalty"]) for name in ("repetition", "frequency", "presence")]
    if penalties != [1.0, 0.0, 0.0]:
        found.append(Penalties(prompts, width, *penalties))
    if sampling["temperature"] == 0:
        return LogitsProcessorList(found)
    found.append(TemperatureLogitsWarper(max(float(sampling["temperature"]), MIN_TEMPERATURE)))
    if sampling["min_p"] > 0:
        found.append(MinPLogitsWarper(float(sampling["min_p"])))
    if sampling["top_k"] > 0:
        found.append(TopKLogitsWarper(int(sampling["top_k"])))
    if sampling["top_p"] < 1:
        found.append(TopPLogitsWarper(float(sampling["top_p"])))
    return LogitsProcessorList(found)


class MinTokens(LogitsProcessor):
    """No end token among the first `least` tokens of a reply."""

    def __init__(self, width: int, least: int, end_ids: Sequence[int]) -> None:
        self._first, self._end_ids = width + least, list(end_ids)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """`scores` (batch, vocab)."""
        if input_ids.shape[1] < self._first:
            ids = torch.tensor(self._end_ids, dtype=torch.long, device=scores.device)
            scores = scores.index_fill(1, ids, -torch.inf)
        return scores


class Penalties(LogitsProcessor):
    """`repetition` divides what the prompt or the reply has, `frequency` and `presence` are taken off what the reply
    has: for each time, and once."""

    def __init__(
        self, prompts: Sequence[Sequence[int]], width: int, repetition: float, frequency: float, presence: float
    ) -> None:
        self._prompts, self._width = prompts, width
        self._repetition, self._frequency, self._presence = repetition, frequency, presence

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """`input_ids` (batch, width + reply), `scores` (batch, vocab)."""
        reply = input_ids[:, self._width :]
        counts = torch.zeros_like(scores).scatter_add_(1, reply, torch.ones_like(reply, dtype=scores.dtype))
        seen = counts > 0
        for row, prompt in zip(seen, self._prompts, strict=True):
            row[torch.tensor(prompt, device=scores.device)] = True
        factor = torch.where(scores > 0, 1 / self._repetition, self._repetition)
        scores = torch.where(seen, scores * factor, scores)
        return scores - self._frequency * counts - self._presence * (counts > 0)


class StopStrings(StoppingCriteria):
    """Ends a row whose reply holds one of `stops`; `found` has the number of its tokens and the text before the string.

    As in vLLM the string counts where it ends behind the first `min_tokens` tokens, and of several the one that is
    whole first.
    """

    def __init__(
        self, tokenizer: Any, prompts: Sequence[list[int]], width: int, stops: Sequence[str], min_tokens: int
    ) -> None:
        self.found: dict[int, tuple[int, str]] = {}
        self._tokenizer, self._prompts, self._width = tokenizer, prompts, width
        self._stops, self._min_tokens = stops, min_tokens
        self._searched = [0] * len(prompts)  # characters

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Whether each row (batch,) is at its end."""
        for row, reply in enumerate(input_ids[:, self._width :].tolist()):
            if row not in self.found:
                text = reply_text(self._tokenizer, self._prompts[row], reply)
                if len(reply) > self._min_tokens and (at := self._cut(text, self._searched[row])) is not None:
                    self.found[row] = (len(reply), text[:at])
                self._searched[row] = len(text)
        ended = [row in self.found for row in range(len(self._prompts))]
        return torch.tensor(ended, device=input_ids.device)

    def _cut(self, text: str, searched: int) -> int | None:
        """Where the first stop string begins that ends behind `searched` characters; None where there is none."""
        starts = {stop: text.find(stop, max(searched - len(stop) + 1, 0)) for stop in self._stops}
        ends = {start + len(stop): start for stop, start in starts.items() if start >= 0}
        return ends[min(ends)] if ends else None


def reply_text(tokenizer: Any, prompt: list[int], reply: Sequence[int]) -> str:
    """The text of `reply` as it follows `prompt`, which some tokenizers begin with a space; like vLLM without special
    tokens, without the bytes of a character that it was cut in, and with the spaces that were generated."""
    settings = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    before: str = tokenizer.decode(prompt, **settings)
    whole: str = tokenizer.decode([*prompt, *reply], **settings)
    return whole[len(before.rstrip("\ufffd")) :].rstrip("\ufffd")
