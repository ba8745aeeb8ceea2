"""The server engine against small HTTP servers that misbehave, and against a real vLLM server it starts itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from synthloop import chat
from synthloop.engines import complete_all, server
from synthloop.engines._endpoints import backoff_s
from synthloop.engines._managed_server import free_port
from synthloop.errors import StageFailed, UserError
from synthloop.records import Completion, Request
from tests.engines.conftest import VLLM_ARGS, ask

FAST: dict[str, Any] = {"backoff_s": 0.01, "cool_down_s": 0.05, "give_up_s": 1.0, "timeout_s": 5.0}


class FakeEndpoint:
    """An OpenAI-compatible server that echoes the prompt. `answer` may refuse: it returns a status or None."""

    def __init__(self) -> None:
        self.base_url = f"http://127.0.0.1:{free_port()}/v1"
        self.answer: Callable[[dict[str, Any]], int | None] = lambda body: None
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
            return web.json_response({"error": {"message": f"refused with {status}"}}, status=status)
        choice: dict[str, Any] = {"message": {"content": body["messages"][-1]["content"]}, "finish_reason": "stop"}
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
    with pytest.raises(ValidationError, match="either base_urls"):
        server.Config(model="m")
    with pytest.raises(ValidationError, match="http://"):
        server.Config(model="m", base_urls=("localhost:8000",))
    with pytest.raises(ValidationError, match="serve: true"):
        server.Config(model="m", base_urls=("http://localhost:8000/v1",), args={"max_model_len": 3})
    with pytest.raises(UserError, match="NO_SUCH_KEY"):
        server.open(server.Config(model="m", base_urls=("http://localhost:8000/v1",), api_key_env="NO_SUCH_KEY"))


def test_pauses_grow_and_are_bounded() -> None:
    pauses = [backoff_s(0.5, "id", tries) for tries in range(1, 20)]
    assert 0.25 <= pauses[0] <= 0.5
    assert max(pauses) <= 30.0
    assert pauses[5] > pauses[0]
    assert pauses == [backoff_s(0.5, "id", tries) for tries in range(1, 20)]


@pytest.mark.slow
def test_a_real_vllm_server_started_here(tiny_model: Path, adapter: Path) -> None:
    """One server for everything: prompt parity, seeds, the adapter, a prompt over the context, and its end."""
    cfg = server.Config(model=str(tiny_model), serve=True, args=VLLM_ARGS, start_timeout_s=120.0)
    engine = server.open(cfg, adapter)
    try:
        asked = [ask("Tom has 3 apples.", id=str(i), seed=i % 2, max_tokens=8) for i in range(4)]
        asked.append(ask("Tom", id="scored", temperature=0, max_tokens=1, prompt_logprobs=0, logprobs=0))
        asked.append(ask("Tom " * 600, id="long", max_tokens=4))
        *sampled, scored, long = complete_all(engine, asked)
        ids = chat.prompt_ids(chat.load_tokenizer(str(tiny_model)), asked[0].messages)
        assert [one.prompt_tokens for one in sampled] == [len(ids)] * 4
        assert sampled[0].text == sampled[2].text != sampled[1].text == sampled[3].text
        assert scored.prompt_logprobs is not None
        assert len(scored.prompt_logprobs) == scored.prompt_tokens
        assert scored.logprob is not None
        assert long.finish_reason == "error"
        base = server.Config(model=str(tiny_model), base_urls=(engine._server.base_url,))  # type: ignore[union-attr]
        plain = server.open(base)
        (without,) = complete_all(plain, asked[4:5])
        plain.close()
        assert without.prompt_logprobs != scored.prompt_logprobs
        child = engine._server._process  # type: ignore[union-attr]
    finally:
        engine.close()
    assert child.poll() is not None
