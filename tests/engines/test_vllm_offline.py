"""The in-process engine on a tiny model, through real vLLM."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from synthloop import chat, vllm_models
from synthloop.engines import Engine, _vllm, complete_all, max_lora_rank, vllm_offline
from synthloop.engines._vllm import engine_args
from synthloop.errors import UserError
from synthloop.records import Completion, Message, Request
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


def test_own_seeds_differ_and_one_seed_repeats(vllm: Engine) -> None:
    own = complete_all(vllm, [ask("Tom", id=str(i), seed=i, max_tokens=16) for i in range(20)])
    shared = complete_all(
        vllm, [ask("Tom", id=str(i), seed=7, max_tokens=16).model_copy(update={"sample_index": i}) for i in range(20)]
    )
    assert len({one.text for one in own}) == 20
    assert len({one.text for one in shared}) == 1


def test_the_prompt_is_the_one_training_sees(vllm: Engine, tiny_model: Path) -> None:
    messages = (Message(role="system", content="Be brief."), Message(role="user", content="Tom has 3 apples."))
    ids = chat.prompt_ids(chat.load_tokenizer(str(tiny_model)), messages)
    as_messages = Request(id="a", role="student", messages=messages, sampling={"temperature": 0, "max_tokens": 12})
    as_ids = Request(id="b", role="student", prompt_token_ids=tuple(ids), sampling=as_messages.sampling)
    rendered, given = complete_all(vllm, [as_messages, as_ids])
    assert rendered.prompt_tokens == len(ids)
    assert rendered.text == given.text


def test_a_prompt_longer_than_the_context_is_an_error_completion(vllm: Engine) -> None:
    long, short = complete_all(vllm, [ask("Tom " * 600, id="long"), ask("Tom", id="short", max_tokens=4, seed=1)])
    assert (long.finish_reason, long.text, long.completion_tokens) == ("error", "", 0)
    assert long.error is not None
    assert f"{long.prompt_tokens} tokens" in long.error
    assert "512" in long.error
    assert short.finish_reason == "length"


def test_without_max_tokens_the_reply_may_fill_the_context(vllm: Engine) -> None:
    (reply,) = complete_all(vllm, [ask("Tom", seed=3, ignore_eos=True)])
    assert reply.prompt_tokens + reply.completion_tokens == 512
    assert reply.truncated


def test_guided_json_parses(vllm: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    guided = [ask("Answer", id=str(i), seed=i, max_tokens=64, structured_outputs={"json": schema}) for i in range(4)]
    for reply in complete_all(vllm, guided):
        assert set(json.loads(reply.text)) == {"answer"}


def test_logprob_comes_where_it_is_asked_for(vllm: Engine) -> None:
    asked, not_asked = complete_all(
        vllm, [ask("Tom", id="a", seed=1, max_tokens=8, logprobs=0), ask("Tom", id="b", seed=1, max_tokens=8)]
    )
    assert asked.text == not_asked.text
    assert asked.logprob is not None
    assert asked.logprob < 0
    assert not_asked.logprob is None


@pytest.mark.parametrize("sampling", [{"top_q": 1}, {"top_p": 7}, {"n": 2}])
def test_sampling_that_vllm_does_not_know_is_the_users_mistake(vllm: Engine, sampling: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(sampling))):
        vllm.submit(ask("Tom", **sampling))


def test_names_are_checked_without_loading_a_model() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'max_model_len'"):
        vllm_offline.Config(model="x", args={"max_model_length": 3})
    with pytest.raises(ValidationError, match="Did you mean 'temperature'"):
        vllm_offline.Config(model="x", sampling={"temprature": 0})


def test_an_adapter_changes_the_reply(vllm: Engine, tiny_model: Path, adapter: Path) -> None:
    greedy = [ask(f"Tom has {i} apples.", id=str(i), temperature=0, max_tokens=16) for i in range(4)]
    tuned = vllm_offline.open(vllm_offline.Config(model=str(tiny_model), args=VLLM_ARGS), adapter)
    with_adapter = complete_all(tuned, greedy)
    tuned.close()
    without = complete_all(vllm, greedy)  # also: closing one engine leaves the other alive
    assert all(a.text != b.text for a, b in zip(with_adapter, without, strict=True))


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
