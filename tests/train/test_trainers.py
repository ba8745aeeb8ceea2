"""The trainer's device and precision, where torch sees a GPU and where the launcher said CPU; no GPU is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synthloop.errors import UserError, known_error
from train import trainers
from train.objectives.sft import Config


def config(tmp_path: Path, model: Path, **args: Any) -> Config:
    return Config(
        args=args, lora={}, quantization=None, model=str(model), revision=None, tokenizer=None,
        chat_template_kwargs={}, output_dir=tmp_path, seed=0,
    )  # fmt: skip


def settings(cfg: Config) -> dict[str, Any]:
    """What TRL's config class would be given."""
    given: dict[str, Any] = {}
    trainers.training_args(lambda **settings: given.update(settings), cfg)
    return given


@pytest.mark.parametrize(
    ("has_gpu", "launched_on_cpu", "asked", "on_cpu"),
    [
        (False, "", {}, True),
        (True, "False", {}, False),
        (True, "True", {}, True),  # a CPU file on a GPU machine: accelerate and TRL must mean the same device
        (True, "", {"use_cpu": True}, True),
        (True, "True", {"use_cpu": False}, False),
    ],
)
def test_the_device_is_the_launchers(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch,
    has_gpu: bool, launched_on_cpu: str, asked: dict[str, Any], on_cpu: bool,
) -> None:  # fmt: skip
    import torch

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_gpu)
    monkeypatch.setenv("ACCELERATE_USE_CPU", launched_on_cpu)
    given = settings(config(tmp_path, tiny_model, **asked))
    assert (given.get("use_cpu", False), given.get("bf16", True)) == (on_cpu, not on_cpu)


@pytest.mark.parametrize(("bf16", "base"), [(True, "bfloat16"), (False, "float32")])
def test_the_frozen_weights_are_as_precise_as_the_training(
    tmp_path: Path, tiny_model: Path, bf16: bool, base: str
) -> None:
    import torch
    from trl import SFTConfig, SFTTrainer

    from synthloop.chat import load_tokenizer

    cfg = config(tmp_path, tiny_model, bf16=bf16, use_cpu=True, max_length=32)
    args = trainers.training_args(SFTConfig, cfg)
    columns = {"input_ids": [[5, 6, 7, 8]], "completion_mask": [[0, 0, 1, 1]]}
    model = trainers.build(SFTTrainer, cfg, args, load_tokenizer(str(tiny_model)), columns).model
    dtypes = {bool(parameter.requires_grad): parameter.dtype for parameter in model.parameters()}
    assert dtypes == {False: getattr(torch, base), True: torch.float32}


def test_a_token_that_the_model_does_not_have_is_refused_before_training(tmp_path: Path, tiny_model: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    from synthloop.chat import load_tokenizer

    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.add_tokens([f"<new {number}>" for number in range(384)])
    columns = {"input_ids": [[5, 6, len(tokenizer) - 1]], "completion_mask": [[0, 0, 1]]}
    cfg = config(tmp_path, tiny_model, use_cpu=True)
    with pytest.raises(UserError, match="'<new 383>' with the id .*resize_token_embeddings"):
        trainers.build(SFTTrainer, cfg, trainers.training_args(SFTConfig, cfg), tokenizer, columns)


@pytest.mark.parametrize(("storage", "refused"), [(None, True), ("uint8", True), ("bfloat16", False)])
def test_4_bit_weights_that_fsdp_would_not_shard_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str | None, refused: bool
) -> None:
    quantization = {"load_in_4bit": True, **({"bnb_4bit_quant_storage": storage} if storage else {})}
    cfg = config(tmp_path, tmp_path).model_copy(update={"quantization": quantization})
    trainers._refuse_unsharded(cfg)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    if not refused:
        trainers._refuse_unsharded(cfg)
        return
    with pytest.raises(UserError, match="bnb_4bit_quant_storage: bfloat16"):
        trainers._refuse_unsharded(cfg)


def test_a_full_gpu_is_told_with_what_to_turn_down() -> None:
    import torch

    known = known_error(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"))
    assert known is not None
    assert "Tried to allocate 2 GiB" in str(known)
    assert "per_device_train_batch_size" in str(known)
    assert known_error(RuntimeError("anything else")) is None
