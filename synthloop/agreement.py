"""Whether an engine answers with the student that was trained: log-probabilities of a few rows, by both.

The training writes `logprobs.json` beside its adapter while the trained model is in memory; whoever opens an engine
with that adapter asks it for the same before anything else. This catches whatever an engine drops, known or not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synthloop.config import parse
from synthloop.errors import StageFailed
from synthloop.files import parse_json
from synthloop.integrity import check as check_integrity
from synthloop.integrity import digest
from synthloop.lora import KEPT, dropped, is_set
from synthloop.records import Completion, Record, Request

FILE = "logprobs.json"

TOLERANCE = {"float32": 0.001, "bfloat16": 0.05}
"""The largest mean difference of a token's log-probability (nats) that rounding explains, by the coarser of the two
precisions. Trainer against vLLM on tiny models (scripts/check_adapters.py) it was at most 6e-7 in float32 (58 adapters)
and 0.009 in bfloat16 (15), and at least 0.08 where a setting was dropped; the room for larger models is chosen."""

ROUNDING_ARGS = ("quantization", "quantization_config", "kv_cache_dtype")
"""Engine arguments that round the student to few bits."""

ENGINE_ARGS = ("lora_target_modules", *ROUNDING_ARGS, "hf_overrides", "dtype")
"""Engine arguments by which the student that answers may be another one than was trained."""


class Scored(Record):
    """A row's token ids, and the log-probability (nats) of each but the first."""

    id: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


class TrainedModel(Record):
    """`logprobs.json`: what a training knows of the model it ends with.

    `dtype` is the precision it computes in, `quantized` says that its base weights were rounded to few bits, which an
    engine's are not. `lora` are the settings it was given, `adapter_config` and `sha256` what it saved.
    """

    dtype: str
    quantized: bool
    lora: dict[str, Any]
    adapter_config: dict[str, Any]
    sha256: str
    rows: tuple[Scored, ...]


class Difference(NamedTuple):
    """One token's log-probability by the trainer and by the engine; None where one of them gave no number."""

    row: str
    position: int
    trained: float | None
    engine: float | None

    @property
    def size(self) -> float:
        """Nats; infinite where one of the two is no number."""
        if self.trained is None or self.engine is None:
            return math.inf
        size = abs(self.trained - self.engine)
        return size if math.isfinite(size) else math.inf


def read(adapter: Path) -> TrainedModel | None:
    """What the training of `adapter` wrote; None where it was trained without. Raises `UserError`."""
    path = adapter.parent / FILE
    check_integrity(path)
    return parse(TrainedModel, parse_json(path), str(path)) if path.exists() else None


def requests(trained: TrainedModel) -> list[Request]:
    """One for each row: the log-probabilities of its tokens."""
    sampling = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
    return [
        Request(id=row.id, role="student", prompt_token_ids=row.token_ids, sampling=sampling) for row in trained.rows
    ]


def compare(trained: TrainedModel, replies: Sequence[Completion]) -> list[Difference]:
    """Every token of the rows that were served, the most different first."""
    found = []
    for row, reply in zip(trained.rows, replies, strict=True):
        if reply.prompt_logprobs is not None:
            pairs = itertools.zip_longest(row.logprobs, reply.prompt_logprobs[1:], fillvalue=None)
            found += [Difference(row.id, position, *pair) for position, pair in enumerate(pairs, 1)]
    return sorted(found, key=lambda one: -one.size)


def judge(
    trained: TrainedModel, replies: Sequence[Completion], adapter: Path, args: Mapping[str, Any], dtype: str | None
) -> dict[str, Any]:
    """What a stage's record says of the comparison.

    Args:
        args: the engine's arguments.
        dtype: the precision the engine computes in, where it tells.

    Raises:
        StageFailed: the engine's student is not the one that was trained.
    """
    found = compare(trained, replies)
    if not found:
        why = next((one.error for one in replies if one.error), "the engine gives no prompt_logprobs")
        return {"compared": False, "why": why}
    precise = trained.dtype == dtype == "float32"
    tolerance = TOLERANCE["float32" if precise else "bfloat16"]
    mean = sum(one.size for one in found) / len(found)
    facts = {"compared": True, "tokens": len(found), "mean_difference": mean, "largest_difference": found[0].size}
    if rounded := _rounded(trained, args):
        return {**facts, "judged": False, "why": rounded}
    if not mean <= tolerance:
        raise StageFailed(_failure(found, mean, tolerance, list(suspects(trained, adapter, args))))
    return {**facts, "judged": True, "tolerance": tolerance}


def _rounded(trained: TrainedModel, args: Mapping[str, Any]) -> str | None:
    """Why a difference is expected: weights of few bits on one side."""
    if trained.quantized:
        return "train.quantization: the training's base weights were rounded to few bits, the engine's are not"
    asked = [name for name in ROUNDING_ARGS if args.get(name) not in (None, "auto")]
    return f"student.args.{asked[0]}: the engine rounds what the training did not" if asked else None


def suspects(trained: TrainedModel, adapter: Path, args: Mapping[str, Any]) -> Iterator[str]:
    """What may be behind a difference, most certain first."""
    found = parse_json(adapter / "adapter_config.json")
    for name, value in dropped(found).items():
        yield f"adapter_config.json has {name}={value!r}, which vLLM does not apply"
    for name in sorted(found.keys() | trained.adapter_config.keys()):
        if found.get(name) != trained.adapter_config.get(name):
            yield f"adapter_config.json says {name}={found.get(name)!r}, saved was {trained.adapter_config.get(name)!r}"
    if digest(adapter / "adapter_model.safetensors") != trained.sha256:
        yield "adapter_model.safetensors is not the file that the training saved"
    for name in ENGINE_ARGS:
        if args.get(name) is not None:
            yield f"student.args.{name}={args[name]!r}"
    for name, value in sorted(trained.lora.items()):
        if is_set(value) and (name not in KEPT or name == "init_lora_weights"):
            yield f"train.lora.{name}={value!r}"


def _failure(found: Sequence[Difference], mean: float, tolerance: float, suspected: Sequence[str]) -> str:
    worst = found[0]
    by_trainer, by_engine = ("none" if one is None else f"{one:.4f}" for one in (worst.trained, worst.engine))
    what = "; ".join(suspected) or "none that is known; the engine's version, or its own support of this model"
    return (
        f"The engine's student is not the one that was trained, so its scores would be another model's. Row "
        f"'{worst.row}', token {worst.position}: log-probability {by_trainer} by the trainer, {by_engine} by the "
        f"engine; over {len(found)} tokens they differ by {mean:.4g} nats on average, and rounding explains "
        f"{tolerance:g}. What may differ: {what}. Change that and train the round anew."
    )
