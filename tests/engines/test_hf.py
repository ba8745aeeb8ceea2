"""The transformers engine against the vLLM engine, on the same tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from synthloop import chat
from synthloop.engines import Engine, complete_all, hf, vllm_offline
from synthloop.errors import UserError
from synthloop.records import Message
from tests.engines.conftest import VLLM_ARGS, ask


@pytest.fixture(scope="module")
def transformers(tiny_model: Path) -> Iterator[Engine]:
    engine = hf.open(hf.Config(model=str(tiny_model), args={"dtype": "float32"}, batch_size=4))
    yield engine
    engine.close()


def test_greedy_replies_are_vllms(vllm: Engine, transformers: Engine) -> None:
    asked = [
        ask("Tom has " + "3 apples " * (i + 1), id=str(i), temperature=0, max_tokens=12, logprobs=0) for i in range(6)
    ]
    for a, b in zip(complete_all(vllm, asked), complete_all(transformers, asked), strict=True):
        assert (a.text, a.finish_reason, a.prompt_tokens, a.completion_tokens) == (
            b.text,
            b.finish_reason,
            b.prompt_tokens,
            b.completion_tokens,
        )
        assert a.logprob == pytest.approx(b.logprob, abs=0.02)


def test_prompt_logprobs_are_vllms(vllm: Engine, transformers: Engine) -> None:
    asked = [ask("Tom has 3 apples and buys 4 more.", max_tokens=1, temperature=0, prompt_logprobs=0)]
    (a,), (b,) = complete_all(vllm, asked), complete_all(transformers, asked)
    assert a.prompt_logprobs is not None
    assert b.prompt_logprobs is not None
    assert a.prompt_logprobs[0] is None
    assert b.prompt_logprobs[0] is None
    assert len(a.prompt_logprobs) == a.prompt_tokens
    assert a.prompt_logprobs[1:] == pytest.approx(b.prompt_logprobs[1:], abs=1e-2)


def test_a_seed_gives_the_same_text_in_any_order(transformers: Engine) -> None:
    asked = [ask("Tom", id=str(i), seed=i, max_tokens=8) for i in range(5)]
    forward = complete_all(transformers, asked)
    backward = complete_all(transformers, asked[::-1])[::-1]
    assert [one.text for one in forward] == [one.text for one in backward]
    assert len({one.text for one in forward}) == 5


def test_a_stop_string_ends_the_reply_and_is_cut(transformers: Engine) -> None:
    (whole,) = complete_all(transformers, [ask("Tom", seed=1, max_tokens=24)])
    stop = whole.text[5:8]
    (cut,) = complete_all(transformers, [ask("Tom", seed=1, max_tokens=24, stop=stop)])
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]


def test_a_prompt_longer_than_the_context_is_an_error_completion(transformers: Engine) -> None:
    (reply,) = complete_all(transformers, [ask("Tom " * 600)])
    assert reply.finish_reason == "error"
    assert reply.error is not None
    assert "512" in reply.error


def test_an_adapter_changes_the_reply_as_in_vllm(transformers: Engine, tiny_model: Path, adapter: Path) -> None:
    """Several prompts scored at once under an adapter: the CPU build of vLLM crashes here when the head is wrapped."""
    asked = [
        ask("Tom has 3 apples. " * (i + 1), id=str(i), temperature=0, max_tokens=8, logprobs=0, prompt_logprobs=0)
        for i in range(4)
    ]
    in_vllm = vllm_offline.open(vllm_offline.Config(model=str(tiny_model), args=VLLM_ARGS), adapter)
    ours = complete_all(in_vllm, asked)
    in_vllm.close()
    theirs = complete_all(hf.open(hf.Config(model=str(tiny_model)), adapter), asked)
    assert [one.text for one in ours] == [one.text for one in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.prompt_logprobs is not None
        assert b.prompt_logprobs is not None
        assert a.logprob == pytest.approx(b.logprob, abs=0.05)
        assert a.prompt_logprobs[1:] == pytest.approx(b.prompt_logprobs[1:], abs=0.02)
    assert theirs[0].text != complete_all(transformers, asked[:1])[0].text


def test_unknown_sampling_is_the_users_mistake(transformers: Engine) -> None:
    with pytest.raises(UserError, match=r"sampling\.structured_outputs"):
        transformers.submit(ask("Tom", structured_outputs={"json": {}}))


def test_token_counts_match_the_rendered_prompt(transformers: Engine, tiny_model: Path) -> None:
    ids = chat.prompt_ids(chat.load_tokenizer(str(tiny_model)), [Message(role="user", content="Tom")])
    assert complete_all(transformers, [ask("Tom", temperature=0, max_tokens=1)])[0].prompt_tokens == len(ids)
