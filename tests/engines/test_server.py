"""The server engine against small HTTP servers that misbehave, and against a real vLLM server it starts itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from synthloop.credentials import without_credentials
from synthloop.engines import _openai, complete_all, server
from synthloop.engines._endpoints import backoff_s
from synthloop.engines._managed_server import free_port
from synthloop.errors import StageFailed, UserError
from synthloop.records import Completion, Request
from synthloop.schema import describe
from tests.engines.conftest import ask

STOP = 369  # a token that the tiny model's greedy replies hold
FAST: dict[str, Any] = {"backoff_s": 0.01, "cool_down_s": 0.05, "give_up_s": 1.0, "timeout_s": 5.0}


URLS = ("http://localhost:8000/v1",)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no server": ({}, "there is no server. Give base_urls"),
    "both": ({"base_urls": URLS, "serve": True}, "exclude each other"),
    "no scheme": ({"base_urls": ["localhost:8000"]}, "http://"),
    "no host": ({"base_urls": ["http://"]}, "no host"),
    "wrong port": ({"base_urls": ["http://h:99999/v1"]}, "not a URL"),
    "password": ({"base_urls": ["http://me:hunter2@h/v1"]}, "api_key_env: NAME"),
    "password without scheme": ({"base_urls": ["me:hunter2@h/v1"]}, "api_key_env: NAME"),
    "query": ({"base_urls": ["http://h/v1?api_key=hunter2"]}, "api_key_env: NAME"),
    "a text": ({"base_urls": "http://me:hunter2@h/v1"}, "base_urls"),
    "args": ({"base_urls": URLS, "args": {"max_model_len": 3}}, "serve: true"),
    "key itself": ({"base_urls": URLS, "api_key_env": "sk-hunter2"}, "not the key itself"),
    "key for our own": ({"serve": True, "api_key_env": "SOME_KEY"}, "has no key"),
    "unknown key": ({"base_urls": URLS, "timeout": 3}, "timeout"),
    "dialect": ({"base_urls": URLS, "dialect": "tgi"}, "'vllm' or 'openai'"),
    "dialect of our own": ({"serve": True, "dialect": "openai"}, "base_urls"),
    "field": ({"base_urls": URLS, "dialect": "openai", "sampling": {"top_k": 3}}, "top_k"),
    "several replies": ({"base_urls": URLS, "sampling": {"n": 2}}, "n must be 1"),
    "no schema": (
        {"base_urls": URLS, "sampling": {"structured_outputs": {"json": {"type": "txt"}}}},
        "is no JSON schema",
    ),
    "ignored field": ({"base_urls": URLS, "sampling": {"detokenize": False}}, "detokenize"),
    "unknown field": ({"base_urls": URLS, "sampling": {"temprature": 1}}, "Did you mean 'temperature'"),
    "stops": ({"base_urls": URLS, "sampling": {"stop": list("abcde")}}, "a server takes 4"),
    "template": ({"base_urls": URLS, "dialect": "openai", "chat_template_kwargs": {"a": 1}}, "chat_template_kwargs"),
    **{
        name: ({"base_urls": URLS, name: 0}, name)
        for name in ("max_concurrency", "timeout_s", "backoff_s", "cool_down_s", "give_up_s", "max_reply_bytes")
    },
    "not a number": ({"base_urls": URLS, "timeout_s": float("nan")}, "timeout_s"),
    "retries": ({"base_urls": URLS, "max_retries": -1}, "max_retries"),
}


class FakeEndpoint:
    """An OpenAI-compatible server that echoes the prompt. `answer` may refuse: it returns a status or None."""

    def __init__(self) -> None:
        self.base_url = f"http://127.0.0.1:{free_port()}/v1"
        self.answer: Callable[[dict[str, Any]], int | None] = lambda body: None
        self.writes: Callable[[dict[str, Any]], str] = lambda body: body["messages"][-1]["content"]
        self.says: str | None = None
        self.location: str | None = None
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.start()

    def start(self) -> None:
        self._run(self._start())

    def stop(self) -> None:
        self._run(self._runner.cleanup())

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", int(self.base_url.split(":")[2].split("/")[0])).start()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": []})

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        status = self.answer(body)
        if status is not None:
            headers = {"Location": self.location} if self.location else {}
            said = {"error": {"message": self.says or f"refused with {status}"}}
            return web.json_response(said, status=status, headers=headers)
        choice: dict[str, Any] = {"message": {"content": self.writes(body)}, "finish_reason": "stop"}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{"logprob": -1.0}, {"logprob": -0.5}]}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})


@pytest.fixture
def endpoints() -> Iterator[list[FakeEndpoint]]:
    fakes = [FakeEndpoint(), FakeEndpoint()]
    yield fakes
    for fake in fakes:
        fake.stop()


def run(fakes: list[FakeEndpoint], asked: list[Request], **settings: Any) -> list[Completion]:
    urls = tuple(fake.base_url for fake in fakes)
    engine = server.open(server.Config(model="m", base_urls=urls, **{**FAST, **settings}))
    try:
        return complete_all(engine, asked)
    finally:
        engine.close()


def asks(count: int) -> list[Request]:
    return [ask(f"question {i}", id=str(i), seed=i) for i in range(count)]


def test_two_endpoints_share_the_work(endpoints: list[FakeEndpoint]) -> None:
    replies = run(endpoints, asks(100), max_concurrency=4)
    assert [one.text for one in replies] == [f"question {i}" for i in range(100)]
    assert (replies[0].prompt_tokens, replies[0].completion_tokens, replies[0].logprob) == (5, 2, None)
    assert min(len(fake.bodies) for fake in endpoints) > 10
    assert sum(len(fake.bodies) for fake in endpoints) == 100


def test_sampling_and_key_travel(endpoints: list[FakeEndpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    asked = ask("q", top_k=5, min_p=0.1, seed=3, logprobs=0, structured_outputs={"json": {"type": "object"}})
    settings = {"sampling": {"temperature": 0.5}, "chat_template_kwargs": {"enable_thinking": False}}
    (reply,) = run(endpoints[:1], [asked], api_key_env="SOME_KEY", **settings)
    body = endpoints[0].bodies[0]
    assert reply.logprob == pytest.approx(-1.5)
    assert {name: body[name] for name in ("top_k", "min_p", "seed", "temperature", "logprobs", "top_logprobs")} == {
        "top_k": 5,
        "min_p": 0.1,
        "seed": 3,
        "temperature": 0.5,
        "logprobs": True,
        "top_logprobs": 0,
    }
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["structured_outputs"] == {"json": {"type": "object"}}
    assert endpoints[0].headers[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_retried(endpoints: list[FakeEndpoint], status: int) -> None:
    seen: set[str] = set()

    def refuse_each_once(body: dict[str, Any]) -> int | None:
        question = body["messages"][-1]["content"]
        known = question in seen
        seen.add(question)
        return None if known else status

    endpoints[0].answer = refuse_each_once
    replies = run(endpoints[:1], asks(20), max_concurrency=8)
    assert [one.text for one in replies] == [f"question {i}" for i in range(20)]
    assert len(endpoints[0].bodies) == 40


def test_a_bad_request_is_an_error_completion_and_not_retried(endpoints: list[FakeEndpoint]) -> None:
    endpoints[0].answer = lambda body: 400 if body["seed"] == 1 else None
    replies = run(endpoints[:1], asks(3))
    assert [one.finish_reason for one in replies] == ["stop", "error", "stop"]
    assert "refused with 400" in (replies[1].error or "")
    assert len(endpoints[0].bodies) == 3


OVER_CONTEXT = {
    "vllm": "This model's maximum context length is 256 tokens. However, you requested 250 output tokens",
    "sglang": "Requested token count exceeds the model's maximum context length of 256 tokens.",
    "openai": "max_tokens is too large: 250. This model supports at most 200 completion tokens",
    "tgi": "`inputs` tokens + `max_new_tokens` must be <= 256. Given: 9 `inputs` tokens and 250 `max_new_tokens`",
}


@pytest.mark.parametrize("says", OVER_CONTEXT.values(), ids=OVER_CONTEXT)
@pytest.mark.parametrize("dialect", ["vllm", "openai"])
def test_a_reply_that_may_be_longer_than_the_context_is_asked_for_up_to_it(
    endpoints: list[FakeEndpoint], says: str, dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit is told once; a prompt that is too long by itself is refused."""
    name = "max_tokens" if dialect == "vllm" else "max_completion_tokens"
    endpoints[0].says = says
    endpoints[0].answer = lambda body: 400 if body["seed"] == 3 or body.get(name) == 250 else None
    asked = [ask("q", id=str(seed), seed=seed, max_tokens=tokens) for seed, tokens in enumerate((9, 250, 250, 250))]
    replies = run(endpoints[:1], asked, dialect=dialect)
    assert [one.finish_reason for one in replies] == ["stop", "stop", "stop", "error"]
    assert [body.get(name) for body in endpoints[0].bodies].count(None) == 3
    assert len(endpoints[0].bodies) == 7
    assert caplog.text.count("end where the context ends") == 1


@pytest.mark.parametrize(("num_ids", "room"), [(255, 1), (200, 56), (256, None), (300, None)])
def test_token_ids_are_asked_for_what_the_context_leaves(num_ids: int, room: int | None) -> None:
    body = {"prompt": [1] * num_ids, "max_tokens": 99}
    shorter = _openai.within_context("/completions", body, f"HTTP 400: {OVER_CONTEXT['vllm']}")
    assert (shorter and shorter["max_tokens"]) == room
    assert shorter is None or _openai.within_context("/completions", shorter, OVER_CONTEXT["vllm"]) is None


def test_a_request_that_always_fails_ends_as_an_error_completion(endpoints: list[FakeEndpoint]) -> None:
    endpoints[0].answer = lambda body: 500 if body["seed"] == 1 else None
    replies = run(endpoints[:1], asks(30), max_retries=2, give_up_s=30.0)
    assert [one.request_id for one in replies if one.finish_reason == "error"] == ["1"]
    assert sum(body["seed"] == 1 for body in endpoints[0].bodies) == 3


def test_a_dead_endpoint_fails_over(endpoints: list[FakeEndpoint]) -> None:
    endpoints[1].stop()
    replies = run(endpoints, asks(50), max_concurrency=4)
    assert [one.text for one in replies] == [f"question {i}" for i in range(50)]
    assert len(endpoints[0].bodies) == 50


def test_an_endpoint_that_comes_back_is_used_again(endpoints: list[FakeEndpoint]) -> None:
    endpoints[0].stop()
    timer = threading.Timer(0.4, endpoints[0].start)
    timer.start()
    replies = run(endpoints[:1], asks(10), give_up_s=20.0)
    timer.join()
    assert [one.text for one in replies] == [f"question {i}" for i in range(10)]


def test_all_endpoints_dead_fails_the_stage_and_names_them(endpoints: list[FakeEndpoint]) -> None:
    urls = tuple(f"http://127.0.0.1:{free_port()}/v1" for _ in range(2))
    engine = server.open(server.Config(model="m", base_urls=urls, **FAST))
    with pytest.raises(StageFailed) as failed:
        complete_all(engine, asks(10))
    engine.close()
    assert all(url in str(failed.value) for url in urls)
    assert "no connection" in str(failed.value)


def test_a_wrong_key_or_url_is_the_users_mistake(endpoints: list[FakeEndpoint]) -> None:
    endpoints[0].answer = lambda body: 401
    with pytest.raises(UserError, match="api_key_env"):
        run(endpoints[:1], asks(3))


def test_config_mistakes_are_found_before_anything_is_asked() -> None:
    for settings, expected in WRONG.values():
        with pytest.raises(ValidationError, match=expected) as refused:
            server.Config.model_validate({"model": "m", **settings})
        shown = "\n".join([str(refused.value), *describe(refused.value, server.Config)])
        assert "hunter2" not in without_credentials(shown)
    with pytest.raises(UserError, match="NO_SUCH_KEY"):
        server.open(server.Config(model="m", base_urls=URLS, api_key_env="NO_SUCH_KEY"))


@pytest.mark.parametrize("key", ["hunter2\n", "hunt er2", "\x1bhunter2", "hunter2\u00e9", "Bearer hunter2"])
def test_a_key_that_cannot_be_sent_is_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(UserError, match="The key in SOME_KEY holds") as refused:
        server.open(server.Config(model="m", base_urls=URLS, api_key_env="SOME_KEY"))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("status", [200, 400, 401, 422, 500])
def test_a_key_that_a_server_echoes_is_not_shown(
    endpoints: list[FakeEndpoint], status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-hunter2/x")
    endpoints[0].answer = lambda body: status
    endpoints[0].says = "sk-hunter2/x sk-hunter2%2Fx " * 9 + "\x1b[31m" * 1000
    try:
        (reply,) = run(endpoints[:1], asks(1), api_key_env="SOME_KEY", max_retries=0)
        shown = reply.model_dump_json()
    except UserError as error:
        shown = str(error)
    assert "[api key]" in shown
    assert "sk-" not in shown + caplog.text
    assert len(shown) < 2_000 + 500 * len("\\u001b")


def test_a_redirect_is_not_followed(endpoints: list[FakeEndpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    here, there = endpoints
    for location, named in (
        (f"{there.base_url}/chat/completions?key=hunter2", there.base_url),
        (there.base_url.replace("//", "//me:hunter2@"), there.base_url),
        ("/v1/other", f"{here.base_url}/other"),
        ("http://[broken", "can't be read"),
    ):
        here.answer, here.location = (lambda body: 307), location
        refused = run([here], asks(1), api_key_env="SOME_KEY")[0]
        assert refused.error is not None
        assert f"{here.base_url}/chat/completions redirects to" in refused.error
        assert named in refused.error
        assert "hunter2" not in refused.error
    assert there.bodies == []


def test_a_prompt_that_is_refused_for_itself_costs_itself_only(endpoints: list[FakeEndpoint]) -> None:
    for status in (403, 307):
        endpoints[0].location = "/elsewhere"
        endpoints[0].answer = lambda body, status=status: status if "number 3" in str(body) else None
        requests = [ask(f"number {number}", id=str(number)) for number in range(30)]
        replies = run(endpoints[:1], requests)
        assert [one.request_id for one in replies if one.finish_reason == "error"] == ["3"]


def test_a_key_that_a_model_repeats_is_not_stored(
    endpoints: list[FakeEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-0123456789")
    asked = ask("You sent sk-0123456789, did you not?")
    assert run(endpoints[:1], [asked], api_key_env="SOME_KEY")[0].text == "You sent [api key], did you not?"


def test_openai_is_sent_its_own_fields_only(endpoints: list[FakeEndpoint]) -> None:
    schema = {"type": "object"}
    asked = ask("q", seed=3, max_tokens=9, logprobs=2, stop=["x"], structured_outputs={"json": schema}, top_p=None)
    run(endpoints[:1], [asked], dialect="openai", sampling={"temperature": 0.5})
    assert endpoints[0].bodies[0] == {
        "model": "m",
        "messages": [{"role": "user", "content": "q"}],
        "temperature": 0.5,
        "seed": 3,
        "max_completion_tokens": 9,
        "stop": ["x"],
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}},
    }
    for unknown in ({"top_k": 5}, {"prompt_logprobs": 0}, {"structured_outputs": {"regex": "a"}}):
        with pytest.raises(UserError, match=next(iter(unknown))):
            run(endpoints[:1], [ask("q", **unknown)], dialect="openai")


@pytest.mark.parametrize("says", ["Unknown parameter: 'top_k'.", "min_p: Extra inputs are not permitted"])
def test_a_server_that_refuses_a_field_of_vllms_is_told_of_the_dialect(
    endpoints: list[FakeEndpoint], says: str
) -> None:
    endpoints[0].answer, endpoints[0].says = (lambda body: 400), says
    with pytest.raises(UserError, match="dialect: openai"):
        run(endpoints[:1], asks(3))
    endpoints[0].says = "Unknown parameter: 'temperature'"
    assert [one.finish_reason for one in run(endpoints[:1], asks(3))] == ["error"] * 3


@pytest.mark.parametrize(
    ("sampling", "num_ids", "at_least", "at_most"),
    [
        ({"max_tokens": 256}, None, 2**20, 2 * 2**20),
        ({"max_tokens": 256, "logprobs": 20}, None, 6 * 2**20, 8 * 2**20),
        ({"max_tokens": 1, "prompt_logprobs": 0}, 32_000, 32 * 2**20, 33 * 2**20),
        ({"max_tokens": 1, "prompt_logprobs": 0}, None, 64 * 2**20, 64 * 2**20),
        ({}, None, 64 * 2**20, 64 * 2**20),
    ],
)
def test_a_reply_may_be_as_large_as_what_is_asked_for(
    sampling: dict[str, Any], num_ids: int | None, at_least: int, at_most: int
) -> None:
    asked = ask("q", **sampling).model_copy(update={"prompt_token_ids": num_ids and (1,) * num_ids})
    _, body = _openai.body(server.Config(model="m", base_urls=URLS), "m", asked)
    assert at_least <= _openai.max_reply_bytes(body) <= at_most


def test_pauses_grow_and_are_bounded() -> None:
    pauses = [backoff_s(0.5, "id", tries) for tries in range(1, 20)]
    assert 0.25 <= pauses[0] <= 0.5
    assert max(pauses) <= 30.0
    assert pauses[5] > pauses[0]
    assert pauses == [backoff_s(0.5, "id", tries) for tries in range(1, 20)]
