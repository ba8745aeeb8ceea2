"""The in-process engine on a tiny model, through real vLLM."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from synthloop import chat, upstream, vllm_models
from synthloop.engines import Engine, _openai, _vllm, complete_all, hf, max_lora_rank, vllm_offline
from synthloop.engines._vllm import engine_args
from synthloop.errors import UserError
from synthloop.records import Completion, Request
from tests.engines.conftest import VLLM_ARGS, ask, make_adapter


def sampled(count: int) -> list[Request]:
    return [
        ask(f"Tom has {i} apples.", id=str(i), seed=i, max_tokens=8 + i % 17, ignore_eos=True) for i in range(count)
    ]


def test_completions_stream_out_as_they_finish(vllm: Engine) -> None:
    for request in sampled(40):
        vllm.submit(request)
    polls: list[list[Completion]] = []
    while batch := vllm.poll():
        polls.append(batch)
    assert len(polls) > 5
    replies = {one.request_id: one for batch in polls for one in batch}
    assert sorted(map(int, replies)) == list(range(40))
    assert all(one.finish_reason == "length" and one.truncated for one in replies.values())
    assert all(replies[str(i)].completion_tokens == 8 + i % 17 for i in range(40))


def test_an_idle_engine_returns_nothing(vllm: Engine) -> None:
    assert vllm.poll() == []


def test_a_seed_gives_the_same_text_whatever_else_is_in_the_batch(vllm: Engine) -> None:
    together = complete_all(vllm, sampled(30))
    reversed_ = complete_all(vllm, sampled(30)[::-1], max_in_flight=7)[::-1]
    alone = [complete_all(vllm, [one])[0] for one in sampled(3)]
    assert [one.text for one in together] == [one.text for one in reversed_]
    assert [one.text for one in together[:3]] == [one.text for one in alone]


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(-1, 3), "top_p": st.floats(-0.5, 1.5), "top_k": st.integers(-3, 3),
    "min_p": st.floats(-0.5, 1.5), "presence_penalty": st.floats(-3, 3), "frequency_penalty": st.floats(-3, 3),
    "repetition_penalty": st.floats(-1, 2), "min_tokens": st.integers(-1, 4), "max_tokens": st.integers(0, 4),
    "logprobs": st.integers(-3, 3), "prompt_logprobs": st.integers(-3, 3), "n": st.integers(0, 2),
    "stop": st.sampled_from([None, "", "a", [], ["a"], ["a", ""]]), "ignore_eos": st.booleans(),
}  # fmt: skip


@given(st.fixed_dictionaries({}, optional=VALUES))
@example({"stop": [""]})
@example({"min_tokens": 3, "max_tokens": 2})
def test_every_engine_refuses_what_vllm_refuses(sampling: dict[str, Any]) -> None:
    """Before a model is loaded, and nothing else but several replies at once."""
    from vllm import SamplingParams
    from vllm.exceptions import VLLMClientError

    def refuses(check: Callable[[dict[str, Any]], Any], *errors: type[Exception]) -> bool:
        try:
            check(sampling)
        except errors:
            return True
        return False

    wrong = refuses(lambda settings: SamplingParams(**{"max_tokens": None, **settings}), VLLMClientError, ValueError)
    wrong = wrong or sampling.get("n", 1) != 1
    for check in (_vllm.check_sampling, _openai.check_vllm, hf._check_sampling):
        assert refuses(check, ValueError) == wrong, check


def test_a_server_is_asked_for_what_its_requests_have() -> None:
    """The rest it would ignore."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    fields, names = set(ChatCompletionRequest.model_fields), upstream.accepted("sampling_params")
    assert names is not None
    assert names - fields == _openai.NOT_SERVED
    assert fields - names >= _openai.CHAT_FIELDS


def test_a_guided_text_may_hold_quotes_backslashes_and_line_ends_up_to_any_bound(
    vllm: Engine, tiny_model: Path
) -> None:
    tokenizer = chat.load_tokenizer(str(tiny_model))
    bias = {str(tokenizer.convert_tokens_to_ids(one)): 60 for one in ("\\", "n", '"')}
    schema = {"type": "object", "properties": {"text": {"type": "string", "minLength": 1, "maxLength": 40}}}
    guide = {"json": {**schema, "required": ["text"], "additionalProperties": False}}
    asked = [
        ask("Answer", id=str(i), seed=i, max_tokens=90, logit_bias=bias, structured_outputs=guide) for i in range(48)
    ]
    replies = [one for one in complete_all(vllm, asked) if one.finish_reason == "stop"]
    texts = [json.loads(one.text)["text"] for one in replies]
    assert {sign for text in texts for sign in text} >= {"\\", '"', "\n"}


def test_names_are_checked_without_loading_a_model() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'max_model_len'"):
        vllm_offline.Config(model="x", args={"max_model_length": 3})
    with pytest.raises(ValidationError, match="Did you mean 'temperature'"):
        vllm_offline.Config(model="x", sampling={"temprature": 0})


def test_an_engine_that_switches_adapters_answers_as_one_opened_with_each(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    other = make_adapter(tiny_model, tmp_path / "other", rank=4, seed=2)
    greedy = [ask(f"Tom has {i} apples.", id=str(i), temperature=0, max_tokens=12) for i in range(6)]
    config = vllm_offline.Config(model=str(tiny_model), args=VLLM_ARGS)
    alone = {}
    for folder in (adapter, other):
        engine = vllm_offline.open(config, folder)
        alone[folder] = [one.text for one in complete_all(engine, greedy)]
        engine.close()
    assert alone[adapter] != alone[other]
    engine = vllm_offline.open(config, adapter)
    for folder in (adapter, other, adapter, other):
        engine.use(folder)
        assert [one.text for one in complete_all(engine, greedy)] == alone[folder]
    broader = make_adapter(tiny_model, tmp_path / "broader", rank=16)
    with pytest.raises(UserError, match="vLLM refuses the adapter .*broader: LoRA rank 16 is greater than"):
        engine.use(broader)
    engine.close()


def test_a_rank_above_the_limit_names_both(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rank is 4, above args.max_lora_rank of 1"):
        vllm_offline.open(vllm_offline.Config(model=str(tiny_model), args={"max_lora_rank": 1}), adapter)
    too_large = make_adapter(tiny_model, tmp_path / "a", rank=520)
    with pytest.raises(UserError, match=r"rank is 520, above vLLM's largest max_lora_rank of 512"):
        vllm_offline.open(vllm_offline.Config(model=str(tiny_model)), too_large)


def test_the_rank_is_rounded_up_to_one_that_vllm_allows(vllm: Engine) -> None:
    from vllm.config.lora import MaxLoRARanks

    allowed = get_args(MaxLoRARanks)
    assert {max_lora_rank(rank) for rank in range(1, max(allowed) + 1)} == set(allowed)
    assert [max_lora_rank(rank) for rank in (1, 2, 8, 9, 512)] == [1, 8, 8, 16, 512]


KINDS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GPT2LMHeadModel")


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_sources_say_of_lora_is_what_the_classes_say(kind: str, tmp_path: Path) -> None:
    module, name = vllm_models._registry()[kind]
    real = getattr(importlib.import_module(module), name)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [kind]}))
    assert vllm_models.takes_lora(tmp_path, {}) is getattr(real, "supports_lora", False)
    assert vllm_models.embeddings_with_lora(tmp_path, {}) == set(getattr(real, "embedding_modules", ()))


def test_a_folder_without_a_tokenizer_is_the_users_mistake(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    with pytest.raises(UserError, match="tokenizer"):
        vllm_offline.open(vllm_offline.Config(model=str(tmp_path)))


def test_a_gpu_gets_no_float32_model_with_an_adapter(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(tiny_model, tmp_path / "adapter", rank=4)
    configs = [vllm_offline.Config(model="m", args=args) for args in ({}, {"dtype": "float32"})]
    assert engine_args(configs[0], adapter)["dtype"] == "float32"  # on a CPU, bfloat16 is emulated
    monkeypatch.setattr(_vllm, "is_cpu_build", lambda: False)
    assert "dtype" not in engine_args(configs[0], adapter)
    assert engine_args(configs[1], None)["dtype"] == "float32"
    with pytest.raises(UserError, match="16-bit models only"):
        engine_args(configs[1], adapter)
