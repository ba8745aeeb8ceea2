"""Adapters rewritten as plain LoRA: the rule on random factors, and trained ones loaded again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloop import agreement, lora
from synthloop.engines import complete_all, hf
from synthloop.errors import StageFailed
from tests.train.jobs import train
from train.plain_lora import plain, save_plain

MODULES = ("layers.0.q_proj", "layers.1.q_proj", "layers.1.down_proj")


@st.composite
def settings(draw: st.DrawFn) -> dict[str, Any]:
    """Of adapter_config.json, what says how B A is applied."""
    names = st.sampled_from(["q_proj", "down_proj", "layers.1.q_proj", r"layers\.1\..*"])
    sizes = st.integers(1, 6)
    return {
        "r": draw(sizes),
        "lora_alpha": draw(sizes),
        "use_rslora": draw(st.booleans()),
        "rank_pattern": draw(st.dictionaries(names, sizes)),
        "alpha_pattern": draw(st.dictionaries(names, sizes)),
        "init_lora_weights": draw(st.sampled_from([True, "olora", "pissa", "pissa_niter_4"])),
    }


def factors(found: dict[str, Any], seed: int) -> tuple[dict[str, Any], dict[str, float]]:
    """(tensors as PEFT saves them, module -> what PEFT multiplies B A by), from PEFT's own model."""
    import torch
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from torch import nn

    torch.manual_seed(seed)
    layer = lambda: nn.ModuleDict({"q_proj": nn.Linear(5, 7, bias=False), "down_proj": nn.Linear(6, 4, bias=False)})  # noqa: E731
    model: Any = nn.Module()
    model.layers = nn.ModuleList([layer(), layer()])
    given_settings = {**found, "init_lora_weights": False}
    wrapped: Any = get_peft_model(model, LoraConfig(target_modules=list(MODULES), **given_settings))
    scales = {name: wrapped.base_model.model.get_submodule(name).scaling["default"] for name in MODULES}
    return dict(get_peft_model_state_dict(wrapped)), scales


@given(found=settings())
def test_alpha_over_r_of_what_is_saved_gives_what_was_trained(found: dict[str, Any]) -> None:
    import torch

    weights, scales = factors(found, seed=1)
    initial, _ = factors(found, seed=2)
    config, saved = plain(found, weights, initial)
    assert lora.is_plain(config)
    assert lora.dropped(config) == {}
    assert config["r"] == config["lora_alpha"] <= lora.saved_rank(found)
    for module, scale in scales.items():
        a, b = (f"base_model.model.{module}.lora_{one}.weight" for one in "AB")
        wanted = scale * weights[b] @ weights[a]
        if lora.is_residual(found):
            wanted = wanted - scale * initial[b] @ initial[a]
        assert saved[a].shape[0] == saved[b].shape[1] == config["r"]
        torch.testing.assert_close(saved[b] @ saved[a], wanted)


@pytest.mark.parametrize(
    "settings",
    [
        {
            "init_lora_weights": "pissa",
            "use_rslora": True,
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"v_proj": 64},
        },
        {
            "init_lora_weights": "olora",
            "target_modules": ["q_proj", "embed_tokens"],
            "rank_pattern": {"embed_tokens": 12},
        },
    ],
)
def test_a_trained_adapter_loads_as_the_model_that_was_trained(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    adapter = train(tiny_model, tmp_path / "out", **settings)
    known = agreement.read(adapter)
    assert known is not None
    assert lora.dropped(json.loads((adapter / "adapter_config.json").read_text())) == {}
    engine = hf.open(hf.Config(model=str(tiny_model)), adapter)
    facts = agreement.judge(known, complete_all(engine, agreement.requests(known)), adapter, {}, engine.dtype)
    assert facts["tokens"] > 100
    assert facts["largest_difference"] < 1e-4


def test_weights_that_are_not_finite_fail_the_stage(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    (tmp_path / "adapter_config.json").write_text('{"r": 1, "lora_alpha": 1}')
    save_file(
        {"x.lora_A.weight": torch.ones(1, 2), "x.lora_B.weight": torch.full((2, 1), float("nan"))},
        tmp_path / "adapter_model.safetensors",
    )
    with pytest.raises(StageFailed, match=r"1 of 2 tensors .* not finite, x\.lora_B\.weight for one"):
        save_plain(tmp_path, {})
