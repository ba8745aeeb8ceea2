"""Engines on the tiny model. vLLM takes seconds to start, so one engine serves all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synthloop.engines import Engine, vllm_offline
from synthloop.records import Message, Request

# float32, so that log-probabilities of two engines can be compared.
VLLM_ARGS: dict[str, Any] = {"dtype": "float32", "max_num_seqs": 16}


def ask(text: str, *, id: str = "one", **sampling: Any) -> Request:
    """A request with one user turn."""
    return Request(id=id, role="teacher", messages=(Message(role="user", content=text),), sampling=sampling)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """A tiny model gains nothing from a second thread, and on a busy machine threads that wait for each other crawl."""
    import torch

    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def vllm(tiny_model: Path) -> Iterator[Engine]:
    """One engine a file, not a session: engines that others close are freed only when this one is closed too."""
    engine = vllm_offline.open(vllm_offline.Config(model=str(tiny_model), args=VLLM_ARGS))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of rank 4 with random weights, large enough to change every reply."""
    return make_adapter(tiny_model, tmp_path_factory.mktemp("adapters") / "rank4", rank=4)


def make_adapter(model: Path, folder: Path, rank: int, seed: int = 1) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj", "down_proj"])
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in wrapped.named_parameters():
        if "lora_" in name:
            weight.data.normal_(0.0, 0.2, generator=generator)
    wrapped.save_pretrained(folder)
    return folder
