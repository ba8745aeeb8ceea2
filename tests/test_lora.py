"""Which LoRA settings are kept, rewritten or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloop import upstream
from synthloop.lora import KEPT, REWRITTEN, dropped, is_plain, mistakes, saved_rank
from synthloop.model_folder import linear_modules

FIELDS = sorted(upstream.accepted("lora_config") or ())
SET = st.sampled_from([True, 3, "all", ["norm"], {"layers": 1}, [[0, 2]]])


@given(name=st.sampled_from(FIELDS), value=SET, engine=st.sampled_from(["vllm_offline", "server", "my.engine"]))
def test_a_setting_is_kept_rewritten_or_refused_by_its_name(name: str, value: Any, engine: str) -> None:
    """The rule of the kind: nothing that PEFT takes gets to an engine that may not apply it."""
    told = list(mistakes({name: value}, engine, None))
    if name in KEPT | REWRITTEN:
        assert not told or name in ("init_lora_weights", "target_modules")
    else:
        assert len(told) == 1
        assert f"'train.lora.{name}' is {value!r}" in told[0]
        assert "another model would be scored" in told[0]


@given(name=st.sampled_from(FIELDS), value=st.sampled_from([None, False, "none", [], {}]))
def test_a_setting_that_says_nothing_is_not_refused(name: str, value: Any) -> None:
    if name != "init_lora_weights":
        assert list(mistakes({name: value}, "vllm_offline", None)) == []


@pytest.mark.parametrize(
    ("lora", "quantization", "message"),
    [
        ({"init_lora_weights": "eva"}, None, "needs activations of the training rows"),
        ({"init_lora_weights": "loftq"}, None, "rounds the student's own weights"),
        ({"init_lora_weights": "pisa"}, None, "which is unknown"),
        ({"init_lora_weights": "olora"}, {"load_in_4bit": True}, "Take one of the two out"),
        ({"target_modules": ["q_proj", "lm_head"]}, None, "names 'lm_head'"),
        ({"target_modules": ".*(q_proj|head)"}, None, "names 'lm_head'"),
        ({"use_dora": True}, None, "or set student.engine=hf, and student.args to what transformers"),
        ({"trainable_token_indices": [1]}, None, "'train.lora.trainable_token_indices' is [1]"),
        ({"inference_mode": True}, None, "'train.lora.inference_mode' is True"),
    ],
)
def test_what_is_refused_says_why(lora: dict[str, Any], quantization: dict[str, Any] | None, message: str) -> None:
    (told,) = mistakes(lora, "vllm_offline", quantization)
    assert message in told


@pytest.mark.parametrize(
    "lora",
    [
        {"init_lora_weights": "pissa_niter_16"},
        {"init_lora_weights": "olora", "use_rslora": True},
        {"init_lora_weights": "mica", "target_modules": "all-linear"},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 64}},
        {"layers_to_transform": [0], "layers_pattern": "layers", "target_modules": ["q_proj"]},
    ],
)
def test_what_can_be_served_passes(lora: dict[str, Any]) -> None:
    assert list(mistakes(lora, "vllm_offline", None)) == []


def test_all_linear_is_what_peft_makes_of_it(tiny_model: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
    )
    assert set(adapted.targeted_module_names) == linear_modules(tiny_model)


def test_peft_applies_again_what_vllm_does_not() -> None:
    lora = {"use_dora": True, "modules_to_save": ["lm_head"]}
    assert list(mistakes(lora, "hf", None)) == []
    assert len(list(mistakes(lora, "server", None))) == 2


@pytest.mark.parametrize(
    ("lora", "rank", "plain"),
    [
        ({}, 8, True),
        ({"r": 4, "rank_pattern": {"q_proj": 64}}, 64, False),
        ({"r": 4, "init_lora_weights": "pissa"}, 8, False),
        ({"r": 4, "init_lora_weights": "olora", "rank_pattern": {"q_proj": 6}}, 12, False),
        ({"r": 4, "alpha_pattern": {"q_proj": 64}}, 4, False),
    ],
)
def test_the_rank_of_what_is_saved(lora: dict[str, Any], rank: int, plain: bool) -> None:
    assert (saved_rank(lora), is_plain(lora)) == (rank, plain)


def test_of_a_saved_adapter_only_what_changes_the_model_counts() -> None:
    from peft import LoraConfig

    plain = LoraConfig(r=4, use_rslora=True, target_modules=["q_proj"]).to_dict()
    assert dropped(plain) == {}
    assert dropped({**plain, "alpha_pattern": {"q_proj": 3}, "init_lora_weights": "corda", "lora_bias": True}) == {
        "alpha_pattern": {"q_proj": 3},
        "init_lora_weights": "corda",
        "lora_bias": True,
    }
