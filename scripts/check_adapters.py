"""Trainer against vLLM on adapters of four model shapes: right ones have to pass, planted differences to be named.

    python -P -m scripts.check_adapters [--shapes llama qwen2 qwen3 gemma3] [--dtype bfloat16]

Random tiny models; each adapter is trained a few steps, then one engine a shape answers with all of its adapters. What
is planted is an adapter as PEFT saves it (before train/plain_lora.py), or one that was changed after it was saved.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from safetensors.torch import load_file, save_file

from synthloop import agreement
from synthloop.engines import complete_all, vllm_offline
from synthloop.errors import StageFailed
from synthloop.vllm_models import embeddings_with_lora
from tests.tiny import build_tokenizer
from tests.train.jobs import train

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SOME = {"target_modules": ["q_proj", "v_proj", "down_proj"]}
RIGHT: dict[str, dict[str, Any]] = {
    "plain": SOME,
    "rslora": {"use_rslora": True, "r": 6, "lora_alpha": 24},
    "all-linear": {},
    "excluded": {"exclude_modules": ["o_proj", "up_proj"]},
    "one layer": {**SOME, "layers_to_transform": [1]},
    "pattern of names": {"target_modules": r".*layers\.0\..*(q|o)_proj"},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "mica": {"init_lora_weights": "mica"},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora", "use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 2, "down_proj": 12}, "alpha_pattern": {"v_proj": 32}},
    "few modules, high rank": {"target_modules": ["k_proj", "up_proj"], "r": 32, "lora_alpha": 16},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
}
AS_PEFT_SAVES: dict[str, dict[str, Any]] = {
    "init_lora_weights": {"init_lora_weights": "pissa"},
    "init_lora_weights='olora'": {"init_lora_weights": "olora"},
    "rank_pattern": {"rank_pattern": {"q_proj": 2, "down_proj": 12}},
    "alpha_pattern": {"alpha_pattern": {"down_proj": 32}},
    "lora_bias": {"lora_bias": True},
    "alora_invocation_tokens": {"alora_invocation_tokens": [4]},
}


def build(shape: str, folder: Path) -> Path:
    """A random model of two layers and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, Qwen2Config, Qwen3Config

    kinds = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config, "gemma3": Gemma3TextConfig}
    tokenizer = build_tokenizer()
    config = kinds[shape](
        vocab_size=384, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=512, initializer_range=0.1,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def right(model: Path, folder: Path, args: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """(what it is, adapter) of each that has to pass; one on embeddings where vLLM takes it."""
    for name, lora in RIGHT.items():
        if name == "embeddings" and not embeddings_with_lora(model, {}):
            continue
        yield name, train(model, folder / name, args, **lora)
    saving = {**args, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    train(model, folder / "stopped", saving, init_lora_weights="pissa")
    shutil.copytree(folder / "stopped/checkpoints/checkpoint-2", folder / "continued/checkpoints/checkpoint-2")
    yield "continued", train(model, folder / "continued", saving, init_lora_weights="pissa")


def planted(model: Path, folder: Path, args: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """(what the message has to name, adapter) of each that has to fail."""
    for name, lora in AS_PEFT_SAVES.items():
        with patch("train.run.save_plain"), patch("synthloop.lora.mistakes", return_value=[]):
            yield name, train(model, folder / f"planted {name}", args, **lora)
    changes: dict[str, Callable[[Path], None]] = {
        "use_rslora": lambda adapter: change_config(adapter, use_rslora=True),
        "lora_alpha": lambda adapter: change_config(adapter, lora_alpha=64),
        "adapter_model.safetensors": leave_out_a_module,
        "not the file that": lambda adapter: take_weights(adapter, folder / "gaussian/adapter"),
    }
    for name, change in changes.items():
        shutil.copytree(folder / "all-linear", folder / f"changed {name}")
        change(folder / f"changed {name}/adapter")
        yield name, folder / f"changed {name}/adapter"


def change_config(adapter: Path, **settings: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def take_weights(adapter: Path, other: Path) -> None:
    shutil.copy(other / "adapter_model.safetensors", adapter)


def leave_out_a_module(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if "down_proj" not in name}, path)


def hold(engine: Any, adapter: Path) -> tuple[dict[str, Any], str, float]:
    """(facts of the comparison, why it failed or '', seconds)."""
    engine.use(adapter)
    known, started = agreement.read(adapter), time.monotonic()
    assert known is not None, adapter
    replies = complete_all(engine, agreement.requests(known))
    seconds = time.monotonic() - started
    differences = agreement.compare(known, replies)
    facts = {"mean": sum(one.size for one in differences) / len(differences), "largest": differences[0].size}
    try:
        agreement.judge(known, replies, adapter, {}, engine.dtype)
    except StageFailed as error:
        return facts, str(error), seconds
    return facts, "", seconds


def main(shapes: list[str], dtype: str) -> None:
    args = {"bf16": dtype == "bfloat16"}
    passed, named, seconds = 0, 0, list[float]()
    for shape in shapes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            model = build(shape, folder / "model")
            good, bad = list(right(model, folder, args)), list(planted(model, folder, args))
            engine_args = {"dtype": dtype, "max_num_seqs": 16, "max_lora_rank": 64}
            engine_args["lora_target_modules"] = [*MODULES, "embed_tokens"]
            engine = vllm_offline.open(vllm_offline.Config(model=str(model), args=engine_args), good[0][1])
            hold(engine, good[0][1])  # the first request of an engine warms it up
            for name, adapter in good:
                facts, failure, took = hold(engine, adapter)
                passed, seconds = passed + (not failure), [*seconds, took]
                print(
                    f"{shape:7} {name:28} {facts['mean']:.1e} {facts['largest']:.1e} {took:.3f} s {failure}", flush=True
                )
            for name, adapter in bad:
                facts, failure, _ = hold(engine, adapter)
                is_named = bool(failure) and name in failure.partition("What may differ:")[2]
                named += is_named
                told = "named" if is_named else f"NOT NAMED {failure}"
                print(f"{shape:7} planted: {name:28} {facts['mean']:.1e} {facts['largest']:.1e} {told}", flush=True)
            engine.close()
    print(f"{passed} of {len(seconds)} right adapters pass, {named} of {len(shapes) * 10} planted differences named,")
    print(f"{sum(seconds) / len(seconds):.3f} s a comparison, at most {max(seconds):.3f} s")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shapes", nargs="+", default=["llama", "qwen2", "qwen3", "gemma3"])
    options.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    asked = options.parse_args()
    main(asked.shapes, asked.dtype)
