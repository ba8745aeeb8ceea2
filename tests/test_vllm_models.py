"""Which kinds of models vLLM puts an adapter on, told without importing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synthloop.vllm_models import architectures, embeddings_with_lora, takes_lora


def folder(path: Path, config: dict[str, Any]) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("kind", "takes"),
    [
        ("LlamaForCausalLM", True),
        ("Gemma3ForConditionalGeneration", True),
        ("MistralForCausalLM", True),  # by its base class, in another file
        ("GPT2LMHeadModel", False),
        ("GPTNeoXForCausalLM", False),
    ],
)
def test_a_kind_takes_adapters_where_vllm_s_class_says_so(tmp_path: Path, kind: str, takes: bool) -> None:
    """The classes themselves are held against this in tests/engines/test_vllm_offline.py."""
    assert takes_lora(folder(tmp_path, {"architectures": [kind]}), {}) is takes


@pytest.mark.parametrize(
    ("kind", "takes"), [("LlamaForCausalLM", True), ("MistralForCausalLM", False), ("Qwen2ForCausalLM", False)]
)
def test_some_kinds_take_adapters_on_their_embeddings(tmp_path: Path, kind: str, takes: bool) -> None:
    known = embeddings_with_lora(folder(tmp_path, {"architectures": [kind]}), {})
    assert known is not None
    assert ("embed_tokens" in known) is takes


def test_of_what_is_not_known_nothing_is_said(tmp_path: Path) -> None:
    assert takes_lora(folder(tmp_path, {"architectures": ["OwnForCausalLM"]}), {}) is None
    assert takes_lora(folder(tmp_path, {"architectures": ["GPT2LMHeadModel"]}), {"model_impl": "transformers"}) is None
    assert takes_lora(tmp_path / "nowhere", {}) is None
    assert architectures(folder(tmp_path, {"architectures": "x"})) == []
