"""OpenAI-compatible servers: one or several that run already, or one that is started here.

    roles: {teacher: {engine: server, model: Qwen/Qwen2.5-7B-Instruct, base_urls: ["http://gpu1:8000/v1"]}}
    roles: {teacher: {engine: server, model: Qwen/Qwen2.5-7B-Instruct, serve: true, args: {max_model_len: 4096}}}

The server renders the messages with the model's own chat template. `logprob` comes where `sampling.logprobs` asks for
it. `seed`, `top_k`, `min_p`, `structured_outputs`, `prompt_logprobs` and other names of vLLM's are sent as they are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from synthloop import chat
from synthloop.engines import EngineConfig, _openai
from synthloop.engines._vllm import check_args, engine_args
from synthloop.errors import UserError
from synthloop.plugins import Untracked
from synthloop.records import Completion, Request

if TYPE_CHECKING:
    from synthloop.engines._endpoints import EndpointPool
    from synthloop.engines._managed_server import ManagedServer

ADAPTER_NAME = "adapter"


class Config(EngineConfig):
    """Either `base_urls` (each ends in /v1) or `serve: true`, which starts vLLM with `args`.

    `max_concurrency` requests at once an endpoint. A request is retried after 429, 5xx, time-outs and lost connections,
    at most `max_retries` times for failures it may have caused itself; the first pause is `backoff_s`, doubling. An
    endpoint that keeps failing is left alone for `cool_down_s` at a time. When none has answered for `give_up_s`, the
    stage fails; run again to resume.
    """

    base_urls: Annotated[tuple[str, ...], Untracked] = ()
    api_key_env: Annotated[str | None, Untracked] = None
    serve: bool = False
    start_timeout_s: Annotated[float, Untracked] = Field(default=900.0, gt=0)
    max_concurrency: Annotated[int, Untracked] = Field(default=64, gt=0)
    timeout_s: Annotated[float, Untracked] = Field(default=600.0, gt=0)
    max_retries: Annotated[int, Untracked] = Field(default=5, ge=0)
    backoff_s: Annotated[float, Untracked] = Field(default=0.5, gt=0)
    cool_down_s: Annotated[float, Untracked] = Field(default=15.0, gt=0)
    give_up_s: Annotated[float, Untracked] = Field(default=300.0, gt=0)

    @model_validator(mode="after")
    def _one_kind(self) -> Config:
        if self.serve == bool(self.base_urls):
            raise ValueError("give either base_urls (servers that run) or serve: true (one is started), not both")
        if any(not url.startswith(("http://", "https://")) for url in self.base_urls):
            raise ValueError(f"base_urls must start with http:// or https://, found {', '.join(self.base_urls)}")
        if self.args and not self.serve:
            raise ValueError("args are for the server that serve: true starts; servers in base_urls have their own")
        check_args(self.args)
        return self


def open(cfg: Config, adapter: Path | None = None) -> ServerEngine:
    """Connect to the servers, or start one and wait until it answers.

    Raises:
        UserError: no such API key; an adapter for servers that are not ours; a model without tokenizer.
        StageFailed: the server that was started died, or was not ready in time.
    """
    from synthloop.engines._endpoints import EndpointPool, Limits

    if adapter is not None and not cfg.serve:
        raise UserError(
            f"An adapter ({adapter}) can't be put on the servers at {', '.join(cfg.base_urls)}. "
            "Set serve: true, or use engine: vllm_offline."
        )
    headers = {} if cfg.api_key_env is None else {"Authorization": f"Bearer {_api_key(cfg.api_key_env)}"}
    server = _serve(cfg, adapter) if cfg.serve else None
    urls = cfg.base_urls if server is None else (server.base_url,)
    limits = Limits(cfg.max_concurrency, cfg.timeout_s, cfg.max_retries, cfg.backoff_s, cfg.cool_down_s, cfg.give_up_s)
    return ServerEngine(cfg, EndpointPool(urls, headers, limits), server, ADAPTER_NAME if adapter else cfg.model)


def _api_key(name: str) -> str:
    if not os.environ.get(name):
        raise UserError(
            f"api_key_env names the variable {name}, which is not set. Export it, or leave api_key_env out."
        )
    return os.environ[name]


def _serve(cfg: Config, adapter: Path | None) -> ManagedServer:
    from synthloop.engines._managed_server import ManagedServer

    chat.load_tokenizer(cfg.tokenizer or cfg.model, cfg.revision)  # a clear message before the server's own
    args = {"served_model_name": cfg.model, **engine_args(cfg, adapter)}
    server = ManagedServer(args, None if adapter is None else (ADAPTER_NAME, adapter))
    try:
        server.wait_ready(cfg.start_timeout_s)
    except BaseException:  # Ctrl-C too: never leave a server behind
        server.stop()
        raise
    return server


class ServerEngine:
    """Counts what is in flight; the pool does the rest in its own thread."""

    def __init__(self, cfg: Config, pool: EndpointPool, server: ManagedServer | None, model: str) -> None:
        self._cfg = cfg
        self._pool = pool
        self._server = server
        self._model = model
        self._num_in_flight = 0

    def submit(self, request: Request) -> None:
        """Queue `request`. Raises `UserError` on sampling that can't be asked of a server."""
        path, body = _openai.body(self._cfg, self._model, request)
        self._pool.put(request, path, body)
        self._num_in_flight += 1

    def poll(self) -> list[Completion]:
        """Block until something finished; [] when nothing is in flight.

        Raises:
            StageFailed: no endpoint answers any more, or the server that was started died.
            UserError: an endpoint refused us (key, model name or URL).
        """
        ready: list[Completion] = []
        while self._num_in_flight and not ready:
            ready = self._pool.take(timeout_s=0.5)
            if not ready and self._server is not None:
                self._server.check_alive()
        self._num_in_flight -= len(ready)
        return ready

    def close(self) -> None:
        """Drop what is in flight and end the server that was started here."""
        self._pool.close()
        if self._server is not None:
            self._server.stop()
