"""OpenAI-compatible servers: one or several that run already, or one that is started here.

    roles: {teacher: {engine: server, model: Qwen/Qwen2.5-7B-Instruct, base_urls: ["http://gpu1:8000/v1"]}}
    roles: {teacher: {engine: server, model: Qwen/Qwen2.5-7B-Instruct, serve: true, args: {max_model_len: 4096}}}

The server renders the messages with the model's own chat template. Where the tokenizer lies here, requests name the
token with which that ends a turn. A template that reads the clock is told the run's day by a server that is started
here; another shows its own. `logprob` comes where `sampling.logprobs` asks for it. `seed`, `top_k`, `min_p`,
`structured_outputs`, `prompt_logprobs` and other names of vLLM's are sent as they are, and what is not set is sent with
vLLM's own neutral value, so that the model's generation_config.json changes nothing (but for `max_new_tokens` in it,
which caps a reply asked for without `max_tokens`; a server of your own started with `--generation-config vllm`, as ours
is, does not read it). A name that no server reads is refused, for vLLM ignores it.

    roles: {teacher: {engine: server, model: gpt-4o, dialect: openai, api_key_env: OPENAI_API_KEY,
                      base_urls: ["https://api.openai.com/v1"]}}

`dialect: openai` is for servers that refuse fields that OpenAI's API does not have; most ignore them. Such a server
uses its own values for what OpenAI has no field for. Guided JSON goes as `response_format`.

Small models fill guided JSON with white space up to `max_tokens` unless the server forbids it. One that is started here
does; start your own with `--structured-outputs-config '{"backend": "xgrammar", "disable_any_whitespace": true}'`, for a
request can't set it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from synthloop import chat
from synthloop.chat_template import with_fixed_time
from synthloop.engines import EngineConfig, _openai
from synthloop.engines._vllm import check_args, engine_args, stopping_at
from synthloop.errors import UserError
from synthloop.folder_tokenizer import read_tokenizer
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
    stage fails; run again to resume. A server that redirects is refused: prompts and key go to `base_urls` only.

    A reply of more than `max_reply_bytes` is a failed attempt; by default 1 MiB and 1 KiB for each token or
    log-probability asked for, or 64 MiB where the request does not tell their number.
    """

    base_urls: Annotated[tuple[str, ...], Untracked] = ()
    api_key_env: Annotated[str | None, Untracked] = None
    dialect: _openai.Dialect = "vllm"
    serve: bool = False
    start_timeout_s: Annotated[float, Untracked] = Field(default=900.0, gt=0)
    max_concurrency: Annotated[int, Untracked] = Field(default=64, gt=0)
    timeout_s: Annotated[float, Untracked] = Field(default=600.0, gt=0)
    max_retries: Annotated[int, Untracked] = Field(default=5, ge=0)
    backoff_s: Annotated[float, Untracked] = Field(default=0.5, gt=0)
    cool_down_s: Annotated[float, Untracked] = Field(default=15.0, gt=0)
    give_up_s: Annotated[float, Untracked] = Field(default=300.0, gt=0)
    max_reply_bytes: Annotated[int | None, Untracked] = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_kind(self) -> Config:
        if self.serve and self.base_urls:
            raise ValueError("base_urls (servers that run) and serve: true (one is started) exclude each other")
        if not self.serve and not self.base_urls:
            raise ValueError(
                'there is no server. Give base_urls: ["http://HOST:8000/v1"] (servers that run) or serve: true '
                "(one is started)"
            )
        if self.serve and self.api_key_env is not None:
            raise ValueError("api_key_env is for servers in base_urls; one that serve: true starts has no key")
        if self.args and not self.serve:
            raise ValueError("args are for the server that serve: true starts; servers in base_urls have their own")
        check_args(self.args)
        if not self.serve:
            _openai.check_stops(self.sampling)
        if self.dialect == "openai":
            self._check_openai()
        else:
            _openai.check_vllm(self.sampling)
        return self

    def _check_openai(self) -> None:
        if self.serve:
            raise ValueError("dialect: openai is for servers in base_urls; one that serve: true starts speaks vLLM's")
        if self.chat_template_kwargs:
            raise ValueError(
                "chat_template_kwargs are not a field of OpenAI's API. Leave them out, or set dialect: vllm"
            )
        _openai.check_openai(self.sampling)

    @field_validator("base_urls")
    @classmethod
    def _check_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        """The message shows no URL that may hold a secret."""
        for url in urls:
            if set("@?#") & set(url):
                raise ValueError(
                    "a URL here ends in /v1 and holds no user, password or query, which would be written into the run "
                    "directory. Export the key and name its variable: api_key_env: NAME"
                )
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"must start with http:// or https://, found {url}")
            try:
                parts = urlsplit(url)
                port = parts.port
            except ValueError as error:
                raise ValueError(f"{url} is not a URL: {error}") from error
            if not parts.hostname or port == 0:
                raise ValueError(f"{url} names no host or no port")
        return urls

    @field_validator("api_key_env")
    @classmethod
    def _check_key_name(cls, name: str | None) -> str | None:
        """The message does not show what may be the key itself."""
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("the name of an environment variable is expected, not the key itself: api_key_env: NAME")
        return name


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
    key = None if cfg.api_key_env is None else _api_key(cfg.api_key_env)
    server, end = _serve(cfg, adapter) if cfg.serve else (None, _turn_end(cfg))
    urls = cfg.base_urls if server is None else (server.base_url,)
    limits = Limits(**{field.name: getattr(cfg, field.name) for field in dataclasses.fields(Limits)})
    return ServerEngine(cfg, EndpointPool(urls, key, limits), server, ADAPTER_NAME if adapter else cfg.model, end)


def _turn_end(cfg: Config) -> int | None:
    """The token to name in requests to a server that runs already (see `chat.turn_end`), where its model's tokenizer
    lies here too."""
    folder = Path(cfg.tokenizer or cfg.model)
    tokenizer = read_tokenizer(folder) if folder.is_dir() and cfg.dialect == "vllm" else None
    if tokenizer is None or not tokenizer.is_whole:
        return None
    return chat.turn_end(tokenizer, **cfg.chat_template_kwargs)


def _api_key(name: str) -> str:
    key = os.environ.get(name)
    if not key:
        raise UserError(
            f"api_key_env names the variable {name}, which is not set. Export it, or leave api_key_env out."
        )
    if re.fullmatch(r"[\x21-\x7e]+", key) is None:
        raise UserError(
            f"The key in {name} holds white space (often a line feed at its end), a control character or one beyond "
            f'ASCII, which can\'t be sent. From a file: export {name}="$(cat FILE)"'
        )
    return key


def _serve(cfg: Config, adapter: Path | None) -> tuple[ManagedServer, int | None]:
    """The server, and the token at which the model's template ends a turn, where a request has to name it."""
    from synthloop.engines._managed_server import ManagedServer

    tokenizer = chat.load_tokenizer(cfg.tokenizer or cfg.model, cfg.revision)  # a clear message before the server's own
    end = chat.turn_end(tokenizer, **cfg.chat_template_kwargs)
    args = {"served_model_name": cfg.model, **engine_args(cfg, adapter)}
    with tempfile.TemporaryDirectory(prefix="synthloop-template-") as folder:
        args |= _fixed_time(tokenizer.chat_template, Path(folder))
        server = ManagedServer(args, None if adapter is None else (ADAPTER_NAME, adapter))
        try:
            server.wait_ready(cfg.start_timeout_s)
        except BaseException:  # Ctrl-C too: never leave a server behind
            server.stop()
            raise
    return server, end


def _fixed_time(template: Any, folder: Path) -> dict[str, Any]:
    """What a server is started with whose template reads the clock: one that tells the run's own date instead."""
    if not isinstance(template, str) or "strftime_now" not in template:
        return {}
    path = folder / "chat_template.jinja"
    path.write_text(with_fixed_time(template), encoding="utf-8")
    return {"chat_template": path}


class ServerEngine:
    """Counts what is in flight; the pool does the rest in its own thread."""

    def __init__(
        self, cfg: Config, pool: EndpointPool, server: ManagedServer | None, model: str, end: int | None = None
    ) -> None:
        self._cfg = cfg
        self._pool = pool
        self._server = server
        self._model = model
        self._end = end
        self._num_in_flight = 0

    def submit(self, request: Request) -> None:
        """Queue `request`. Raises `UserError` on sampling that can't be asked of a server."""
        path, body = _openai.body(self._cfg, self._model, request, self._cfg.dialect)
        self._pool.put(request, path, stopping_at(self._end, body))
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
