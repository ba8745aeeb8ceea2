"""A saved adapter as plain LoRA of the student: one rank and one scale, on the student's own weights.

PiSSA (Meng et al., 2024, arXiv:2404.02948) and OLoRA (Buyukakyuz, 2024, arXiv:2406.01775) take what the adapter starts
with, s B0 A0, out of the base weights W. What was trained is then

    W - s B0 A0 + s B A  =  W + s [B, -B0] [A; A0]

plain LoRA of twice the rank. `rank_pattern` and `alpha_pattern` give modules a rank and a scale s of their own: s goes
into B, and A and B are filled up with zeros to the largest rank R. Saved is r = lora_alpha = R, so alpha / r is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from synthloop.errors import StageFailed, UserError
from synthloop.lora import is_plain, is_residual
from synthloop.store import read_json, write_json

Tensors = Mapping[str, Any]
"""Name in adapter_model.safetensors -> torch.Tensor."""


class _Names(NamedTuple):
    """The tensors of one module: A (rank, in) and B (out, rank), and B's bias, which few settings make."""

    module: str
    a: str
    b: str
    bias: str


def initial_weights(model: Any, lora: Mapping[str, Any]) -> Tensors:
    """The adapter's weights before the first step, by their names in the saved file, where they will be needed.

    Raises:
        UserError: they are spread over processes (ZeRO-3), where PEFT cannot take them out of the base either.
    """
    if not is_residual(lora):
        return {}
    from peft import get_peft_model_state_dict

    weights = {name: tensor.detach().cpu().clone() for name, tensor in get_peft_model_state_dict(model).items()}
    if any(tensor.numel() == 0 for tensor in weights.values()):
        raise UserError(
            f"train.lora.init_lora_weights is {lora['init_lora_weights']}, which DeepSpeed ZeRO-3 cannot start from. "
            "Set it to true, or train with configs/accelerate/ddp.yaml."
        )
    return weights


def save_plain(adapter: Path, initial: Tensors) -> None:
    """Rewrite the adapter in the folder `adapter`, where it is not plain already.

    Raises:
        StageFailed: a weight is not finite.
    """
    from safetensors.torch import load_file, save_file

    path, settings = adapter / "adapter_model.safetensors", read_json(adapter / "adapter_config.json")
    weights = load_file(path)
    spoilt = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if spoilt:
        raise StageFailed(
            f"The training diverged: {len(spoilt)} of {len(weights)} tensors of the adapter hold values that are not "
            f"finite, {spoilt[0]} for one. Lower train.args.learning_rate, or set train.args.max_grad_norm."
        )
    if is_plain(settings):
        return
    settings, tensors = plain(settings, weights, initial)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    write_json(adapter / "adapter_config.json", settings)


def plain(settings: Mapping[str, Any], weights: Tensors, initial: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    """adapter_config.json and tensors (float32) of the plain LoRA that gives the model trained.

    Args:
        initial: the weights before the first step; read where `settings` say that they were taken out of the base.
    """
    import torch

    tensors, rank = dict(weights), 0
    for names in _modules(weights):
        scale = _scale(settings, names.module)
        a, b = weights[names.a].float(), scale * weights[names.b].float()
        if is_residual(settings):
            a = torch.cat([a, initial[names.a].float()])
            b = torch.cat([b, -scale * initial[names.b].float()], dim=1)
        tensors[names.a], tensors[names.b] = a, b
        if names.bias in weights:
            tensors[names.bias] = scale * weights[names.bias].float()
        rank = max(rank, a.shape[0])
    for names in _modules(weights):
        missing = rank - tensors[names.a].shape[0]
        tensors[names.a] = torch.nn.functional.pad(tensors[names.a], (0, 0, 0, missing))
        tensors[names.b] = torch.nn.functional.pad(tensors[names.b], (0, missing))
    told = {"r": rank, "lora_alpha": rank, "use_rslora": False, "init_lora_weights": True}
    return {**settings, **told, "rank_pattern": {}, "alpha_pattern": {}}, tensors


def _modules(weights: Tensors) -> list[_Names]:
    """Linear layers have `X.lora_A.weight`, embeddings `X.lora_embedding_A`."""
    found = []
    for kind in ("lora_A", "lora_embedding_A"):
        for name in weights:
            module, is_a, end = name.partition(f".{kind}")
            if is_a:
                other = f"{module}.{kind[:-1]}B"
                found.append(_Names(module.removeprefix("base_model.model."), name, f"{other}{end}", f"{other}.bias"))
    return found


def _scale(settings: Mapping[str, Any], module: str) -> float:
    """What PEFT multiplies B A by in the module of this name."""
    from peft.utils.other import get_pattern_key

    ranks, alphas = (settings.get(name) or {} for name in ("rank_pattern", "alpha_pattern"))
    rank = ranks.get(get_pattern_key(ranks, module), settings["r"])
    alpha = alphas.get(get_pattern_key(alphas, module), settings["lora_alpha"])
    return float(alpha / (rank**0.5 if settings.get("use_rslora") else rank))
