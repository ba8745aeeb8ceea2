"""Gradients of single samples on the student's LoRA weights: whether a step on one moves towards another.

A sample's gradient is that of its mean completion loss with respect to the LoRA matrices: of the accepted adapter, or,
in round 1, of a fresh one as training starts from. Gradients are compared by their cosine, as in LESS (Xia et al.,
2024, arXiv:2402.04333, section 3) without its Adam statistics; they come from TracIn (Pruthi et al., 2020,
arXiv:2002.08484). One forward and one backward pass a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthloop import chat
from synthloop.records import Message

PROJECTED = 8192
"""Gradients are hashed to this many numbers (count sketch, Charikar et al. 2002), as LESS projects to 8192; inner
products stay right on average, with a standard error of about 1/sqrt(PROJECTED)."""


class Text(NamedTuple):
    """What is trained on: turns and the completion that has the loss."""

    messages: Sequence[Message]
    completion: str


class Gradients:
    """The student, ready for single backward passes. Loaded in float32, on the GPU where there is one."""

    def __init__(
        self,
        model: str,
        revision: str | None,
        adapter: Path | None,
        lora: dict[str, Any],
        seed: int,
        *,
        tokenizer: str | None = None,
        template_kwargs: dict[str, Any] | None = None,
    ) -> None:
        import torch
        from peft import LoraConfig, PeftModel, get_peft_model
        from transformers import AutoModelForCausalLM

        torch.manual_seed(seed)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        base = AutoModelForCausalLM.from_pretrained(model, revision=revision, dtype=torch.float32)
        self._tokenizer = chat.load_tokenizer(tokenizer or model, revision)
        self._template_kwargs = template_kwargs or {}
        self._model: Any = (
            get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **lora))
            if adapter is None
            else PeftModel.from_pretrained(base, str(adapter), is_trainable=True)
        )
        self._model.to(self._device).eval()  # no dropout: the same text gives the same gradient
        self._weights = [one for one in self._model.parameters() if one.requires_grad]
        generator = torch.Generator().manual_seed(seed)
        sizes = [one.numel() for one in self._weights]
        total = sum(sizes)
        self._buckets = torch.randint(PROJECTED, (total,), generator=generator).to(self._device)
        self._signs = (torch.randint(2, (total,), generator=generator) * 2.0 - 1.0).to(self._device)

    def of(self, texts: Sequence[Text], max_length: int) -> NDArray[np.float32]:
        """One row of length 1 a text, `(texts, PROJECTED)`; zeros where `max_length` leaves no completion."""
        rows = [self._one(text, max_length) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, PROJECTED), np.float32)

    def _one(self, text: Text, max_length: int) -> NDArray[np.float32]:
        import torch

        prompt = chat.prompt_ids(self._tokenizer, text.messages, **self._template_kwargs)
        completion = chat.completion_ids(self._tokenizer, text.messages, text.completion, **self._template_kwargs)
        ids = (prompt + completion)[:max_length]
        if len(ids) <= len(prompt):
            return np.zeros(PROJECTED, np.float32)
        tokens = torch.tensor([ids], device=self._device)
        labels = tokens.clone()
        labels[:, : len(prompt)] = -100
        self._model.zero_grad(set_to_none=True)
        self._model(input_ids=tokens, labels=labels).loss.backward()
        flat = torch.cat(
            [(one.grad if one.grad is not None else torch.zeros_like(one)).flatten() for one in self._weights]
        )
        sketch = torch.zeros(PROJECTED, device=self._device).index_add_(0, self._buckets, flat * self._signs)
        row: NDArray[np.float32] = (sketch / sketch.norm().clamp_min(1e-12)).cpu().numpy()
        return row
