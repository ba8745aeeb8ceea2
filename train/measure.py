"""What a training knows of the model it ends with: log-probabilities of a few rows, to hold an engine against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthloop.agreement import FILE, Scored, TrainedModel
from synthloop.chat import completion_ids, prompt_ids
from synthloop.errors import StageFailed
from synthloop.records import Row
from synthloop.store import read_json, sha256, write_json
from train.objectives import ObjectiveConfig

NUM_ROWS, NUM_TOKENS = 4, 256
"""How many of the first rows are looked at, and of each how many of its first tokens (chosen, not measured)."""


def write_logprobs(trainer: Any, config: ObjectiveConfig, rows: Sequence[Any], folder: Path) -> None:
    """Write `logprobs.json` (a `TrainedModel`) into `folder`, beside the adapter that was just saved there.

    Every process takes part in the forward passes, because the model may be spread over them; the main one writes.

    Raises:
        StageFailed: the trained model gives a log-probability that is not finite.
    """
    scored = []
    for row in (row for row in rows[:NUM_ROWS] if isinstance(row, Row)):
        tokenizer, kwargs = trainer.processing_class, config.chat_template_kwargs
        ids = prompt_ids(tokenizer, row.messages, **kwargs)
        ids = [*ids, *completion_ids(tokenizer, row.messages, row.completion, **kwargs)][:NUM_TOKENS]
        values = logprobs(trainer, ids)
        if not all(map(math.isfinite, values)):
            raise StageFailed(
                f"The trained model gives row '{row.id}' a log-probability that is not finite: the training diverged. "
                "Lower train.args.learning_rate."
            )
        scored.append(Scored(id=row.id, token_ids=tuple(ids), logprobs=tuple(values)))
    if not trainer.args.should_save:
        return
    adapter = folder / "adapter"
    known = TrainedModel(
        dtype=precision(trainer),
        quantized=config.quantization is not None,
        lora=config.lora,
        adapter_config=read_json(adapter / "adapter_config.json"),
        sha256=sha256(adapter / "adapter_model.safetensors"),
        rows=tuple(scored),
    )
    write_json(folder / FILE, known.model_dump())


def logprobs(trainer: Any, ids: Sequence[int]) -> list[float]:
    """`token_logprobs` of the model in memory."""
    with trainer.accelerator.autocast():
        return token_logprobs(trainer.model_wrapped.eval(), ids, trainer.accelerator.device)


def token_logprobs(model: Any, ids: Sequence[int], device: Any) -> list[float]:
    """The log-probability (nats) of each of `ids` but the first."""
    import torch

    tokens = torch.tensor([ids], device=device)
    with torch.no_grad():
        scores = model(input_ids=tokens, use_cache=False).logits[0, :-1].float().log_softmax(-1)  # (seq - 1, vocab)
    found: list[float] = scores.gather(-1, tokens[0, 1:, None])[:, 0].tolist()
    return found


def precision(trainer: Any) -> str:
    """What the training computes in: 'float32', or 'bfloat16' for anything of 16 bits."""
    import torch

    wide = all(one.dtype == torch.float32 for one in trainer.model.parameters())
    return "float32" if wide and not (trainer.args.bf16 or trainer.args.fp16) else "bfloat16"
