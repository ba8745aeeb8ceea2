"""Which settings of `train.lora` mean the same to whatever reads the adapter: what is judged is what was trained.

PEFT honours every field of its `LoraConfig`; vLLM 0.31 reads r, lora_alpha and use_rslora, refuses modules_to_save,
bias and DoRA, and drops the rest without a word (vllm/lora/peft_helper.py). Of each setting one of three is true:

- kept: the engine applies it, or it matters to the training only;
- rewritten: `train/plain_lora.py` turns what was saved into plain LoRA of the same model, which every reader applies;
- refused, here, before anything is loaded.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

KEPT = frozenset(
    {"r", "lora_alpha", "use_rslora", "lora_dropout", "init_lora_weights", "target_modules", "exclude_modules"}
    | {"layers_to_transform", "layers_pattern", "fan_in_fan_out", "task_type"}
)
REWRITTEN = frozenset({"rank_pattern", "alpha_pattern"})
BY_PEFT = frozenset({"use_dora", "modules_to_save"})
"""What PEFT itself puts on the model again, as engine `hf` and `export --merge` do, and leaves off for a reference."""

WITH_HF = "student.engine=hf, and student.args to what transformers' from_pretrained takes (such as student.args={})"
"""What to type for the other engine: its `args` are not vLLM's."""

WRITTEN_BY_PEFT = frozenset(
    {"auto_mapping", "base_model_name_or_path", "inference_mode", "megatron_core", "peft_type", "peft_version"}
    | {"qalora_group_size", "revision"}
)
"""Fields of every adapter_config.json that say nothing of how the weights are applied."""

INITS = (True, False, "gaussian", "orthogonal", "mica")
"""`init_lora_weights` that leave the student's own weights as they are."""
RESIDUAL = re.compile(r"olora|pissa(_niter_\d+)?")
"""Those that take out of the student's weights what the adapter starts with: they train another base model."""

OTHER_INITS = {
    "eva": "needs activations of the training rows, which nothing computes here: PEFT would start from its default",
    "corda": "needs covariances of the training rows, which nothing computes here",
    "lora_ga": "needs gradients of the training rows, which nothing computes here",
    "loftq": "rounds the student's own weights to few bits, and the engine has them as they were",
}


def is_residual(lora: Mapping[str, Any]) -> bool:
    """Whether training starts from other base weights than the student's (PiSSA, OLoRA)."""
    init = lora.get("init_lora_weights")
    return isinstance(init, str) and RESIDUAL.fullmatch(init) is not None


def is_plain(lora: Mapping[str, Any]) -> bool:
    """Whether what PEFT saves is plain LoRA of the student already."""
    return not is_residual(lora) and not any(lora.get(name) for name in REWRITTEN)


def saved_rank(lora: Mapping[str, Any]) -> int:
    """The rank of the adapter once it is plain: the largest of any module, twice that where the start was taken out."""
    ranks = [lora.get("r", 8), *(lora.get("rank_pattern") or {}).values()]
    return (2 if is_residual(lora) else 1) * max((rank for rank in ranks if isinstance(rank, int)), default=8)


def is_set(value: Any) -> bool:
    """Whether a setting says anything: PEFT takes each of these as "not used"."""
    return value not in (None, False, "none") and value not in ([], {})


def dropped(adapter_config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a saved adapter that change what it does and that vLLM does not apply."""
    ignored = KEPT | WRITTEN_BY_PEFT
    found = {name: value for name, value in adapter_config.items() if name not in ignored and is_set(value)}
    init = adapter_config.get("init_lora_weights", True)
    return found if init in INITS or init == "eva" else {**found, "init_lora_weights": init}


def mistakes(lora: Mapping[str, Any], engine: str, quantization: Mapping[str, Any] | None) -> Iterator[str]:
    """A sentence for each setting that training would honour and `engine`, which evaluates the student, would not."""
    for name, value in sorted(lora.items()):
        if name in KEPT | REWRITTEN or not is_set(value) or (engine == "hf" and name in BY_PEFT):
            continue
        remedy = f", or set {WITH_HF}, which applies it" if name in BY_PEFT else ""
        yield (
            f"'train.lora.{name}' is {value!r}, which the engine {engine} does not apply: another model would be "
            f"scored than was trained. Leave it out{remedy}."
        )
    init = lora.get("init_lora_weights", True)
    if init not in INITS and not is_residual(lora):
        why = f"which {OTHER_INITS.get(str(init), 'is unknown')}"
        yield (
            f"'train.lora.init_lora_weights' is {init!r}, {why}. Expected true, gaussian, orthogonal, mica, pissa, "
            "pissa_niter_N or olora."
        )
    if is_residual(lora) and quantization:
        yield (
            f"'train.lora.init_lora_weights' is {init!r}, and train.quantization rounds the student's weights: what is "
            "left of them after that start cannot be had again from the student. Take one of the two out."
        )
    if _names_head(lora.get("target_modules")):
        yield (
            "'train.lora.target_modules' names 'lm_head', on which TRL trains no LoRA (it computes the loss from the "
            "head's own weights). Take it out."
        )


def _names_head(targets: Any) -> bool:
    """PEFT's rule: a text is a pattern for whole names, a list has ends of names; 'all-linear' leaves the head out."""
    if isinstance(targets, str):
        with contextlib.suppress(re.error):  # said by `check_models`
            return re.fullmatch(targets, "lm_head") is not None
    return isinstance(targets, list) and "lm_head" in targets
