"""A fast path for vLLM's LoRA on CPU, where one adapter is all there is.

vLLM's CPU kernels copy the adapter's weights once for every token of the batch (`weights[indices]` in
vllm/lora/ops/torch_ops/lora_ops.py of 0.31). With one adapter slot each index means that slot, so a plain matrix
product gives the same numbers: six times the tokens per second on the quickstart student (docs/measurements.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

_Kernel = Callable[..., None]


def install() -> None:
    """Put the fast path in place of the kernels; where vLLM has other kernels than 0.31, nothing is changed."""
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    for name, fast in _FAST.items():
        kernel = getattr(lora_ops, name, None)
        if kernel is None or hasattr(kernel, "__wrapped__"):
            continue
        replacement = wraps(kernel)(partial(_choose, kernel, fast))
        for module in (lora_ops, punica_cpu):  # the second imported them by name
            setattr(module, name, replacement)


def _choose(
    kernel: _Kernel, fast: _Kernel, inputs: Any, weights: Any, output: Any, indices: Any, *args: Any, **kwargs: Any
) -> None:
    """`weights` [slots, (1,) out, in], `inputs` [tokens, in], `output` [tokens, width], changed in place."""
    if weights.shape[0] != 1:
        kernel(inputs, weights, output, indices, *args, **kwargs)
        return
    weight = weights.reshape(weights.shape[-2:]).to(output.dtype)
    fast(inputs.to(output.dtype) @ weight.T, output, *args, **kwargs)


def _shrink(product: Any, output: Any, scaling: float = 1.0) -> None:
    output[:, : product.shape[1]] = scaling * product


def _expand(product: Any, output: Any, add_inputs: bool = True) -> None:
    # Model and adapter may be padded to different widths.
    _expand_slice(product, output, 0, min(product.shape[1], output.shape[1]), add_inputs)


def _expand_slice(product: Any, output: Any, start: int, width: int, add_inputs: bool = True) -> None:
    target = output[:, start : start + width]
    if add_inputs:
        target += product[:, :width]
    else:
        target.copy_(product[:, :width])


_FAST: dict[str, _Kernel] = {"bgmv_shrink": _shrink, "bgmv_expand": _expand, "bgmv_expand_slice": _expand_slice}
