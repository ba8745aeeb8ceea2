"""One request, one meaning: every engine gives the same greedy reply, and draws from the same tokens.

All have the same model and adapter, in float32. The model's folder has a generation_config.json that would change every
reply; only its end tokens count. `serve` starts a vLLM server; the same one is reached by its URL too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synthloop import chat
from synthloop.engines import Engine, complete_all, hf, server, vllm_offline
from synthloop.errors import UserError
from synthloop.records import Completion, Message, Request
from tests.engines.conftest import VLLM_ARGS, ask
from tests.tiny import build_tiny_model

CONTEXT = 128  # tokens
STOP = 193  # a token that some of its greedy replies hold
OTHERS = ("hf", pytest.param("serve", marks=pytest.mark.slow))
ENGINES = ("vllm_offline", *OTHERS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, of a short context."""
    folder = build_tiny_model(tmp_path_factory.mktemp("models") / "opinionated", max_length=CONTEXT)
    settings = {"repetition_penalty": 1.8, "temperature": 0.3, "top_k": 2, "top_p": 0.5, "min_p": 0.3}
    lengths = {"min_new_tokens": 2, "do_sample": True}
    ends = [chat.load_tokenizer(str(folder)).eos_token_id, STOP]
    (folder / "generation_config.json").write_text(json.dumps({**settings, **lengths, "eos_token_id": ends}))
    return folder


@pytest.fixture(scope="module")
def opened(model: Path, adapter: Path) -> Iterator[Callable[[str], Engine]]:
    """An engine by its name, opened when it is first asked for."""
    engines: dict[str, Engine] = {}

    def serve() -> Engine:
        # A server that a person starts takes the file; what we send has to win over it.
        args = {**VLLM_ARGS, "generation_config": "auto"}
        return server.open(server.Config(model=str(model), serve=True, args=args, start_timeout_s=300.0), adapter)

    opens: dict[str, Callable[[], Engine]] = {
        "hf": lambda: hf.open(hf.Config(model=str(model), args={"dtype": "float32"}, batch_size=4), adapter),
        "vllm_offline": lambda: vllm_offline.open(vllm_offline.Config(model=str(model), args=VLLM_ARGS), adapter),
        "serve": serve,
    }

    def get(name: str) -> Engine:
        if name not in engines:
            engines[name] = opens[name]()
        return engines[name]

    yield get
    for engine in reversed(engines.values()):
        engine.close()


@pytest.fixture
def offline(opened: Callable[[str], Engine]) -> Engine:
    return opened("vllm_offline")


@pytest.fixture
def engine(request: pytest.FixtureRequest, opened: Callable[[str], Engine]) -> Engine:
    return opened(request.param)


every_engine = pytest.mark.parametrize("engine", ENGINES, indirect=True)
every_other = pytest.mark.parametrize("engine", OTHERS, indirect=True)


GREEDY: dict[str, dict[str, Any]] = {
    "plain": {},
    "to the context's end": {"max_tokens": CONTEXT, "ignore_eos": True},
    "no max_tokens": {"max_tokens": None, "ignore_eos": True},
    "ignore_eos": {"max_tokens": 40, "ignore_eos": True},
    "min_tokens": {"min_tokens": 23},
    "min_tokens and ignore_eos": {"min_tokens": 23, "ignore_eos": True},
    "stop_token_ids": {"stop_token_ids": [178, 383]},
    "stop_token_ids and ignore_eos": {"stop_token_ids": [76, 178], "ignore_eos": True},
    "repetition_penalty": {"repetition_penalty": 1.3},
    "presence_penalty": {"presence_penalty": 1.5},
    "frequency_penalty": {"frequency_penalty": -0.7},
    "all penalties": {"repetition_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 0.4},
    "nulls": {"stop": None, "stop_token_ids": None, "seed": None},
    "neutral": {"top_p": 1.0, "top_k": 0, "min_p": 0.0},
    "no top_k": {"top_k": -1},
    "top_k 1": {"temperature": 1.7, "top_k": 1, "seed": 5},
    "smallest top_p": {"temperature": 1.0, "top_p": 1e-6, "seed": 5},
    "largest min_p": {"temperature": 1.5, "min_p": 1.0, "seed": 5},
}  # fmt: skip
"""What has one reply: no sampling, or a draw from one token."""


def greedy(sampling: dict[str, Any]) -> list[Request]:
    """Prompts of different lengths, which `hf` puts into one batch."""
    settings = {"temperature": 0, "max_tokens": 24, "logprobs": 0, **sampling}
    return [ask("Tom has " + "3 apples " * (3 * i + 1), id=str(i), **settings) for i in range(5)]


def told(replies: list[Completion]) -> list[tuple[Any, ...]]:
    return [(one.text, one.finish_reason, one.prompt_tokens, one.completion_tokens) for one in replies]


@every_other
@pytest.mark.parametrize("name", GREEDY)
def test_a_request_has_one_reply_on_every_engine(name: str, engine: Engine, offline: Engine) -> None:
    asked = greedy(GREEDY[name])
    replies, expected = complete_all(engine, asked), complete_all(offline, asked)
    assert told(replies) == told(expected)
    assert [one.logprob for one in replies] == pytest.approx([one.logprob for one in expected], abs=0.05)


def test_the_settings_of_the_contract_matter(offline: Engine) -> None:
    """Else the test above compares nothing."""
    replies = {name: complete_all(offline, greedy(GREEDY[name])) for name in GREEDY}
    plain = told(replies["plain"])
    assert [name for name in replies if told(replies[name]) == plain] == ["plain", *list(GREEDY)[-6:]]
    assert {one.finish_reason for one in replies["plain"]} == {"stop", "length"}
    assert all(one.prompt_tokens + one.completion_tokens == CONTEXT for one in replies["to the context's end"])
    assert told(replies["no max_tokens"]) == told(replies["to the context's end"])
    assert all(one.completion_tokens >= 23 for one in replies["min_tokens"])
    assert {one.finish_reason for one in replies["stop_token_ids and ignore_eos"]} == {"stop", "length"}


@every_other
def test_stop_strings_are_cut_and_their_tokens_counted(engine: Engine, offline: Engine) -> None:
    """One that a reply's tokens only begin or end in, several that overlap, one in the first `min_tokens`."""
    whole = complete_all(offline, greedy({"ignore_eos": True}))[0].text
    at = len(whole) // 3
    stops: list[dict[str, Any]] = [
        {"stop": whole[at : at + 3]},
        {"stop": [whole[at : at + 9], whole[at + 2 : at + 4]]},
        {"stop": whole[at : at + 2], "min_tokens": 20},
        {"stop": ["\n", " apples", "e"]},
        {"stop": []},
    ]
    for sampling in stops:
        asked = greedy({"ignore_eos": True, **sampling})
        replies, expected = complete_all(engine, asked), complete_all(offline, asked)
        assert told(replies) == told(expected)
        assert [one.logprob for one in replies] == pytest.approx([one.logprob for one in expected], abs=0.05)
    cut = complete_all(engine, greedy({"ignore_eos": True, **stops[0]}))[0]
    assert (cut.text, cut.finish_reason) == (whole[: whole.index(whole[at : at + 3])], "stop")


@every_other
def test_prompts_are_scored_alike(engine: Engine, offline: Engine, model: Path) -> None:
    turns = greedy({})[3].messages
    ids = tuple(chat.prompt_ids(chat.load_tokenizer(str(model)), turns))
    sampling = {"max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    as_ids = Request(id="ids", role="student", prompt_token_ids=ids, sampling=sampling)
    asked = [*greedy(sampling), as_ids]
    replies, expected = complete_all(engine, asked), complete_all(offline, asked)
    assert told(replies) == told(expected)
    for one, other in zip(replies, expected, strict=True):
        assert one.prompt_logprobs is not None
        assert other.prompt_logprobs is not None
        assert one.prompt_logprobs[0] is other.prompt_logprobs[0] is None
        assert len(one.prompt_logprobs) == one.prompt_tokens
        assert one.prompt_logprobs[1:] == pytest.approx(other.prompt_logprobs[1:], abs=0.02)


@every_engine
def test_logprobs_are_those_of_the_model_and_only_where_asked(engine: Engine) -> None:
    """Before temperature and penalties: what a reply is worth does not depend on how it was drawn."""
    penalised = {"temperature": 0.4, "presence_penalty": 1.0, "seed": 4, "max_tokens": 9, "ignore_eos": True}
    asked = ask("Tom", id="asked", logprobs=0, **penalised)
    reply, unasked = complete_all(engine, [asked, ask("Tom", id="unasked", **penalised)])
    assert reply.text == unasked.text
    assert unasked.logprob is None
    (first,) = complete_all(engine, [ask("Tom", **{**penalised, "max_tokens": 1, "logprobs": 0})])
    (other,) = complete_all(engine, [ask("Tom", **{**penalised, "max_tokens": 1, "logprobs": 0, "temperature": 0.39})])
    assert first.text == other.text
    assert first.logprob == pytest.approx(other.logprob, abs=1e-3)


@every_engine
def test_a_seed_is_a_text_and_no_seed_is_chance(engine: Engine) -> None:
    """Whatever else is asked, in whatever order. -1 is vLLM's word for no seed."""
    seeded = [ask("Tom", id=str(i), seed=i, max_tokens=12) for i in range(5)]
    forward, backward = complete_all(engine, seeded), complete_all(engine, seeded[::-1])[::-1]
    assert told(forward) == told(backward) == told(complete_all(engine, seeded))
    assert len({one.text for one in forward}) == 5
    for seed in (None, -1):
        unseeded = {complete_all(engine, [ask("Tom", seed=seed, max_tokens=12)])[0].text for _ in range(4)}
        assert len(unseeded) == 4


@every_other
def test_what_may_be_drawn_is_the_same(engine: Engine, offline: Engine) -> None:
    """No engine draws a first token that another does not admit; `serve` draws the same ones."""
    settings: tuple[dict[str, Any], ...] = (
        {"top_k": 3},
        {"top_p": 0.05},
        {"min_p": 0.5},
        {"min_p": 0.3, "top_p": 0.3, "temperature": 1.4},
    )
    for sampling in settings:
        asked = [ask("Tom", id=str(seed), seed=seed, max_tokens=1, **sampling) for seed in range(200)]
        admitted = [one.text for one in complete_all(offline, asked)]
        drawn = [one.text for one in complete_all(engine, asked[:40])]
        assert 1 < len(set(admitted)) < 40
        assert set(drawn) <= set(admitted)
        assert isinstance(engine, hf.HfEngine) or drawn == admitted[:40]


@every_engine
def test_a_prompt_that_does_not_fit_costs_itself_alone(engine: Engine) -> None:
    """To the last token: a prompt that fills the context has no room for a reply."""
    ids = tuple(range(200, 200 + CONTEXT))
    sampling = {"temperature": 0, "max_tokens": 5, "ignore_eos": True}
    asked = [Request(id=str(cut), role="student", prompt_token_ids=ids[cut:], sampling=sampling) for cut in (1, 0)]
    long = [ask("Tom " * 300, id="bounded", max_tokens=4), ask("Tom " * 300, id="open")]
    fitting, *refused = complete_all(engine, [*asked, *long])
    assert (fitting.finish_reason, fitting.completion_tokens) == ("length", 1)
    for reply in refused:
        assert (reply.finish_reason, reply.text, reply.completion_tokens) == ("error", "", 0)
        assert reply.error is not None
        assert str(CONTEXT) in reply.error


@every_engine
def test_an_empty_prompt_is_no_request_and_a_blank_turn_is_one(engine: Engine) -> None:
    empty = Request(id="ids", role="student", prompt_token_ids=(), sampling={"max_tokens": 3})
    replies = complete_all(engine, [empty, ask("", id="blank", temperature=0, max_tokens=3)])
    assert [one.finish_reason == "error" for one in replies] == [True, False]


WRONG: dict[str, Any] = {
    "top_p": 0.0, "temperature": 2.5, "top_k": -2, "min_p": 1.5, "presence_penalty": 3.0, "frequency_penalty": None,
    "repetition_penalty": 0.0, "min_tokens": -1, "max_tokens": 0, "logprobs": -2, "stop": ["a", ""], "n": 2,
    "temprature": 1.0,
}  # fmt: skip


@every_engine
def test_what_no_engine_can_honour_is_refused_by_name(engine: Engine) -> None:
    for name, value in WRONG.items():
        with pytest.raises(UserError, match=name):
            engine.submit(ask("Tom", **{name: value}))
    with pytest.raises(UserError, match="no more than max_tokens"):
        engine.submit(ask("Tom", min_tokens=9, max_tokens=3))
    assert engine.poll() == []


@every_engine
def test_guided_json_parses_or_is_refused_by_name(engine: Engine) -> None:
    schema = {"type": "object", "properties": {"answer": {"enum": [1, 2]}}, "required": ["answer"]}
    guided = ask("Answer", temperature=0, max_tokens=40, structured_outputs={"json": schema})
    if isinstance(engine, hf.HfEngine):
        with pytest.raises(UserError, match=r"sampling\.structured_outputs.*\n?.*vllm_offline"):
            engine.submit(guided)
        return
    assert json.loads(complete_all(engine, [guided])[0].text)["answer"] in (1, 2)


@every_engine
def test_turns_are_rendered_as_in_training(engine: Engine, model: Path) -> None:
    roles = ("system", "user", "assistant", "user")
    turns = tuple(Message(role=role, content=f" {role}\n3 + 4? ") for role in roles)
    ids = tuple(chat.prompt_ids(chat.load_tokenizer(str(model)), turns))
    sampling = {"temperature": 0, "max_tokens": 12}
    as_turns = Request(id="turns", role="student", messages=turns, sampling=sampling)
    as_ids = Request(id="ids", role="student", prompt_token_ids=ids, sampling=sampling)
    turned, given = told(complete_all(engine, [as_turns, as_ids]))
    assert turned == given


@pytest.mark.slow
def test_a_server_by_its_url_answers_as_the_one_started_here(opened: Callable[[str], Engine], model: Path) -> None:
    """With the adapter under its name there, and without it under the model's."""
    started = opened("serve")
    url = started._server.base_url  # type: ignore[attr-defined]
    asked, told_by = greedy({}), {}
    for name in (server.ADAPTER_NAME, str(model)):
        engine = server.open(server.Config(model=name, base_urls=(url,)))
        told_by[name] = told(complete_all(engine, asked))
        engine.close()
    assert told_by[server.ADAPTER_NAME] == told(complete_all(started, asked)) != told_by[str(model)]
