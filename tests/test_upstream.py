"""The names read from sources are those of the real classes."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from typing import get_args

import pytest

from synthloop import upstream
from synthloop.annotations import admits


def init_fields(cls: type) -> set[str]:
    """The public arguments of a dataclass's constructor."""
    return {field.name for field in dataclasses.fields(cls) if field.init and not field.name.startswith("_")}


def test_sft_config() -> None:
    from trl import SFTConfig

    assert upstream.accepted("sft_config") == init_fields(SFTConfig)


def test_dpo_config() -> None:
    from trl import DPOConfig

    assert upstream.accepted("dpo_config") == init_fields(DPOConfig)


def test_lora_config() -> None:
    from peft import LoraConfig

    assert upstream.accepted("lora_config") == init_fields(LoraConfig)


def test_bitsandbytes_config() -> None:
    from transformers import BitsAndBytesConfig

    parameters = set(inspect.signature(BitsAndBytesConfig.__init__).parameters) - {"self", "kwargs"}
    assert upstream.accepted("bitsandbytes_config") == parameters


@pytest.mark.slow
def test_vllm_classes() -> None:
    from vllm import SamplingParams
    from vllm.config.lora import MaxLoRARanks
    from vllm.engine.arg_utils import EngineArgs

    assert upstream.accepted("engine_args") == init_fields(EngineArgs)
    public = {name for name in SamplingParams.__struct_fields__ if not name.startswith("_")}
    assert upstream.accepted("sampling_params") == public
    assert upstream.lora_ranks() == get_args(MaxLoRARanks)


def test_it_is_fast_and_imports_none_of_them() -> None:
    code = """
import sys, time
from synthloop import upstream
started = time.process_time()
for kind in upstream._CLASSES:
    assert upstream.accepted(kind)
assert upstream.lora_ranks()
print(time.process_time() - started)
assert not {"torch", "trl", "transformers", "peft", "vllm"} & sys.modules.keys()
"""
    times = [float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(3)]
    assert min(times) < 0.15, times


def test_a_missing_package_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream.importlib.util, "find_spec", lambda name: None)
    assert upstream.fields.__wrapped__("engine_args") is None
    assert upstream.lora_ranks.__wrapped__() == ()


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("sft_config", {"learning_rate": "abc"}, "'learning_rate' is 'abc'; trl.SFTConfig expects a number."),
        ("sft_config", {"learning_rate": float("nan")}, "expects a number"),
        ("sft_config", {"learning_rate": True}, "expects a number"),
        ("sft_config", {"num_train_epochs": "many"}, "expects a number"),
        ("sft_config", {"per_device_train_batch_size": 1.5}, "expects a whole number"),
        ("sft_config", {"per_device_train_batch_size": None}, "expects a whole number"),
        ("sft_config", {"bf16": "yes"}, "expects true or false"),
        ("sft_config", {"lr_scheduler_type": "cosin"}, "expects one of linear, cosine,"),
        ("sft_config", {"group_by_length": True}, "Did you mean 'train_sampling_strategy: group_by_length'?"),
        ("sft_config", {"lr": 1e-4}, "Did you mean 'learning_rate'?"),
        ("lora_config", {"r": "x"}, "'r' is 'x'; peft.LoraConfig expects a whole number."),
        ("lora_config", {"rank": 8}, "Did you mean 'r'?"),
        ("lora_config", {"bias": "some"}, "expects 'none' or 'all' or 'lora_only'"),
        ("lora_config", {"target_modules": ["q_proj", 3]}, "expects list[str] or text"),
        ("bitsandbytes_config", {"load_in_4bit": "yes"}, "expects true or false"),
        ("sampling_params", {"temperature": "hot"}, "expects a number"),
        ("sampling_params", {"temp": 1.0}, "Did you mean 'temperature'?"),
        ("sampling_params", {"stop": 3}, "expects text or list[str]"),
        ("engine_args", {"max_model_len": "512"}, "expects a whole number"),
        ("engine_args", {"tp": 2}, "Did you mean 'tensor_parallel_size'?"),
    ],
)
def test_a_wrong_name_or_value_is_a_sentence(kind: upstream.Kind, settings: dict[str, object], message: str) -> None:
    (said,) = upstream.mistakes(kind, settings)
    assert message in said


GOOD: dict[upstream.Kind, dict[str, object]] = {
    "sft_config": {
        "learning_rate": 1,
        "max_length": None,
        "optim": "adamw_torch",
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "save_strategy": "epoch",
        "model_init_kwargs": {"attn_implementation": "sdpa"},
        "neftune_noise_alpha": 5,
        "warmup_steps": 0.1,
        "fsdp": True,
        "lr_scheduler_type": "cosine",
        "max_grad_norm": float("inf"),
    },
    "dpo_config": {"loss_type": "exo_pair", "beta": 0.1},
    "lora_config": {"r": 8, "target_modules": "all-linear", "init_lora_weights": "pissa", "modules_to_save": ["head"]},
    "sampling_params": {"stop": ["a", "b"], "max_tokens": None, "logit_bias": {5: 1.0}, "structured_outputs": {}},
    "engine_args": {"dtype": "float32", "max_model_len": None, "limit_mm_per_prompt": {"image": 0}, "seed": 3},
    "bitsandbytes_config": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"},
}


@pytest.mark.parametrize("kind", GOOD)
def test_good_values_pass(kind: upstream.Kind) -> None:
    assert upstream.mistakes(kind, GOOD[kind]) == []


def test_upstreams_own_defaults_pass() -> None:
    from peft import LoraConfig
    from trl import DPOConfig, SFTConfig

    classes: dict[upstream.Kind, type] = {"sft_config": SFTConfig, "dpo_config": DPOConfig, "lora_config": LoraConfig}
    for kind, cls in classes.items():
        for field in dataclasses.fields(cls):
            annotation = (upstream.fields(kind) or {}).get(field.name)
            if annotation is not None and isinstance(field.default, str | int | float | bool | list | dict | None):
                value = getattr(field.default, "value", field.default)
                assert admits(annotation, value, upstream._options), (kind, field.name, value)


@pytest.mark.parametrize(
    ("kind", "key", "bad", "good"),
    [
        ("sft_config", "learning_rate", [-1e-4], [0, 1e-4]),
        ("sft_config", "num_train_epochs", [0, -1], [0.5]),
        ("sft_config", "per_device_train_batch_size", [0], [1]),
        ("dpo_config", "gradient_accumulation_steps", [0], [1]),
        ("sft_config", "max_length", [0], [1, None]),
        ("lora_config", "r", [0, -8], [1]),
        ("lora_config", "lora_dropout", [-0.1, 1, 1.0], [0, 0.5]),
        ("sampling_params", "temperature", [-0.1, 2.1], [0, 2]),
        ("sampling_params", "n", [0, 2], [1]),
        ("sampling_params", "top_k", [-2], [-1, 0, 5]),
        ("sampling_params", "min_p", [-0.1, 1.1], [0, 1]),
        ("sampling_params", "presence_penalty", [-2.1, 3], [-2, 2]),
        ("sampling_params", "repetition_penalty", [0, float("inf")], [0.5, 1]),
        ("sampling_params", "min_tokens", [-1], [0, 5]),
        ("sampling_params", "stop", ["", ["a", ""]], ["a", [], None]),
        ("sampling_params", "top_p", [0, 1.1], [0.1, 1]),
        ("sampling_params", "max_tokens", [0], [1, None]),
        ("engine_args", "gpu_memory_utilization", [0, 1.5], [1, 0.5]),
        ("engine_args", "max_model_len", [0, -2], [1, -1, None]),
        ("engine_args", "dtype", ["fp16"], ["auto", "bfloat16"]),
    ],
)
def test_ranges(kind: upstream.Kind, key: str, bad: list[object], good: list[object]) -> None:
    assert [value for value in bad if "expected" not in "".join(upstream.mistakes(kind, {key: value}))] == []
    assert [value for value in good if upstream.mistakes(kind, {key: value})] == []


def test_steps_stand_in_for_epochs() -> None:
    assert upstream.mistakes("sft_config", {"num_train_epochs": 0, "max_steps": 5}) == []
    assert upstream.mistakes("sft_config", {"num_train_epochs": 0, "max_steps": -1}) != []
