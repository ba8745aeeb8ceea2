"""The fast LoRA kernels against those of vLLM's CPU build."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from synthloop.engines import _cpu_lora, _vllm

pytestmark = pytest.mark.skipif(not _vllm.is_cpu_build(), reason="needs the CPU build of vLLM")


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("name", ["bgmv_shrink", "bgmv_expand", "bgmv_expand_slice"])
def test_same_numbers_as_vllm(name: str, add: bool, slots: int) -> None:
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    _cpu_lora.install()
    _cpu_lora.install()
    fast = getattr(punica_cpu, name)
    assert fast is getattr(lora_ops, name)
    kernel = fast.__wrapped__
    assert not hasattr(kernel, "__wrapped__")
    torch.manual_seed(0)
    weights = torch.randn(slots, 1, 6, 4)
    inputs = torch.randn(5, 4, dtype=torch.bfloat16)
    # vLLM gives -1 to tokens of no adapter in its warm-up; with one slot that is slot 0.
    indices = torch.tensor([0, slots - 1, -1, 0, 0])
    args: list[Any] = {"bgmv_shrink": [0.5], "bgmv_expand": [add], "bgmv_expand_slice": [2, 6, add]}[name]
    expected, found = torch.ones(5, 8), torch.ones(5, 8)
    kernel(inputs, weights, expected, indices, *args)
    fast(inputs, weights, found, indices, *args)
    assert not torch.equal(found, torch.ones(5, 8))
    torch.testing.assert_close(found, expected)
