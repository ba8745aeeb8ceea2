"""The names read from sources are those of the real classes."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from typing import get_args

import pytest

from synthloop import upstream


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
    assert upstream.accepted.__wrapped__("engine_args") is None
    assert upstream.lora_ranks.__wrapped__() == ()
