"""Requests over several HTTP endpoints, any of which may die and come back.

One event loop in a background thread. Each endpoint has `max_concurrency` slots that all draw from one queue, so a
faster endpoint answers more and a failed request fails over to whichever slot is free next. After a few failures in a
row an endpoint is dropped and probed until it answers again. Nothing is retried without a pause, a bound and a count.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import logging
import queue
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from synthloop.engines import _http, _openai
from synthloop.engines._http import Client, RetryableError
from synthloop.errors import StageFailed, SynthloopError, UserError
from synthloop.records import Completion, Request

log = logging.getLogger("synthloop.engines")

# Chosen, not measured.
DROP_AFTER = 3  # failures in a row
MAX_BACKOFF_S = 30.0
RETRIED_STATUS = {408, 409, 425, 429}
REFUSED_STATUS = {401, 404}
"""What a server answers to all requests alike: key, model or address is wrong. A 403 may be for one prompt."""
UNCOUNTED = (
    "The server does not say how many tokens its replies took (no `usage` that can be read). They count as 0, so what "
    "is told of tokens and costs is too low."
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long to wait and how often to try. `backoff_s` is the first pause of a retried request; it doubles."""

    max_concurrency: int
    timeout_s: float
    max_retries: int
    backoff_s: float
    cool_down_s: float
    give_up_s: float
    max_reply_bytes: int | None


@dataclasses.dataclass
class Endpoint:
    """One server. `failing_since` is when the first failure after its last success came."""

    url: str
    up: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    failures_in_a_row: int = 0
    num_failures: int = 0
    failing_since: float | None = None
    last_error: str = "nothing asked yet"
    context_told: bool = False


@dataclasses.dataclass
class Job:
    """A request on its way. `charged` counts the failures it may itself have caused; only those are bounded."""

    request: Request
    path: str
    body: dict[str, Any]
    tries: int = 0
    charged: int = 0


class EndpointPool:
    """Runs the loop's thread; `put` and `take` are called from the engine's thread."""

    def __init__(self, urls: Sequence[str], api_key: str | None, limits: Limits) -> None:
        self._limits = limits
        self._finished: queue.SimpleQueue[Completion | SynthloopError] = queue.SimpleQueue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._told_uncounted = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="synthloop-endpoints", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(urls, api_key), self._loop).result()

    def put(self, request: Request, path: str, body: dict[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._jobs.put_nowait, Job(request, path, body))

    def take(self, timeout_s: float) -> list[Completion]:
        """All completions that are ready, after at most `timeout_s` of waiting for the first.

        Raises:
            StageFailed: every endpoint kept failing for `give_up_s`.
            UserError: an endpoint refused us (key, model name or URL).
        """
        taken: list[Completion] = []
        try:
            while True:
                one = self._finished.get(timeout=0 if taken else timeout_s)
                if isinstance(one, SynthloopError):
                    self._finished.put(one)  # stays: the next call raises too
                    if taken:
                        return taken
                    raise one
                taken.append(one)
        except queue.Empty:
            return taken

    def close(self) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _start(self, urls: Sequence[str], api_key: str | None) -> None:
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._client = Client(api_key, self._limits.timeout_s)
        self._endpoints = [Endpoint(url.rstrip("/")) for url in urls]
        for endpoint in self._endpoints:
            endpoint.up.set()
            for _ in range(self._limits.max_concurrency):
                self._spawn(self._slot(endpoint))

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A slot or probe ends only when it is cancelled; anything else is a bug, and must not become a silent hang."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._finished.put(
                StageFailed(self._client.shown(f"The endpoint client failed: {error!r}. This is a bug of synthloop."))
            )

    async def _slot(self, endpoint: Endpoint) -> None:
        """Answer one job after the other from `endpoint`, while it is up."""
        while True:
            await endpoint.up.wait()
            job = await self._jobs.get()
            if not endpoint.up.is_set():  # dropped while this slot waited for a job
                self._jobs.put_nowait(job)
                continue
            try:
                self._finished.put(await self._attempt(endpoint, job))
                endpoint.failures_in_a_row, endpoint.failing_since = 0, None
            except RetryableError as error:
                self._retry(job, error)
                self._count_failure(endpoint, str(error))
            except UserError as error:
                self._finished.put(error)

    async def _attempt(self, endpoint: Endpoint, job: Job) -> Completion:
        """One POST. Raises `RetryableError`, or `UserError` where no request of ours can succeed."""
        url = endpoint.url + job.path
        max_bytes = self._limits.max_reply_bytes or _openai.max_reply_bytes(job.body)
        answer = await self._client.post(url, job.body, max_bytes)
        if answer.status == 200:
            return self._read(job, answer.content)
        if 300 <= answer.status < 400 and answer.location:
            return _openai.refusal(job.request, _http.redirection(url, self._client.shown(answer.location)))
        said = self._client.shown(f"HTTP {answer.status}: {_http.message(answer.content)}")
        if answer.status >= 500 or answer.status in RETRIED_STATUS:
            overloaded = answer.status in (429, 503)
            raise RetryableError(said, charged=not overloaded, pause_s=answer.pause_s)
        if answer.status in REFUSED_STATUS:
            raise UserError(f"{url} answered {said}\nCheck base_urls (they end in /v1), model and api_key_env.")
        if (shorter := _openai.within_context(job.path, job.body, said)) is not None:
            reply = await self._attempt(endpoint, dataclasses.replace(job, body=shorter))
            if reply.finish_reason != "error":
                self._tell_context(endpoint, said)
            return reply
        if _openai.is_unknown_field(job.body, said):
            raise UserError(
                f"{url} answered {said}\nA server that takes OpenAI's own fields only needs dialect: openai."
            )
        return _openai.refusal(job.request, f"{endpoint.url}: {said}")

    def _tell_context(self, endpoint: Endpoint, said: str) -> None:
        """Once an endpoint: nobody asked for the limit that cuts replies now."""
        if not endpoint.context_told:
            endpoint.context_told = True
            log.warning("%s: %s Such replies end where the context ends, as on every engine.", endpoint.url, said)

    def _read(self, job: Job, content: bytes) -> Completion:
        try:
            reply = _openai.parse(job.request, json.loads(content))
        except Exception as error:  # any value of any type may stand anywhere in a server's JSON
            start = self._client.shown(content.decode("utf-8", errors="replace"), 200)
            why = self._client.shown(f"{type(error).__name__}: {error}", 200)
            raise RetryableError(f"unreadable reply ({why}): {start}", charged=True) from error
        if reply.uncounted and not self._told_uncounted:
            self._told_uncounted = True
            log.warning("%s", UNCOUNTED)
        hidden = {"text": self._client.hidden(reply.text), "error": reply.error and self._client.shown(reply.error)}
        return reply.model_copy(update=hidden)

    def _retry(self, job: Job, error: RetryableError) -> None:
        job.tries += 1
        job.charged += error.charged
        if job.charged > self._limits.max_retries:
            self._finished.put(_openai.refusal(job.request, f"Failed {job.charged} times, last: {error}"))
            return
        pause_s = max(error.pause_s, backoff_s(self._limits.backoff_s, job.request.id, job.tries))
        self._loop.call_later(pause_s, self._jobs.put_nowait, job)

    def _count_failure(self, endpoint: Endpoint, error: str) -> None:
        now = time.monotonic()
        endpoint.num_failures += 1
        endpoint.failures_in_a_row += 1
        endpoint.failing_since = endpoint.failing_since or now
        endpoint.last_error = error
        if endpoint.failures_in_a_row >= DROP_AFTER and endpoint.up.is_set():
            endpoint.up.clear()
            self._spawn(self._revive(endpoint))
        failing = [one.failing_since for one in self._endpoints if one.failing_since is not None]
        if len(failing) == len(self._endpoints) and now - max(failing) >= self._limits.give_up_s:
            self._finished.put(self._all_dead())

    async def _revive(self, endpoint: Endpoint) -> None:
        """Ask a dropped endpoint for its models until it answers, then let its slots go on."""
        while True:
            await asyncio.sleep(self._limits.cool_down_s)
            try:
                status = await self._client.status(f"{endpoint.url}/models")
                alive = status < 500
                endpoint.last_error = f"HTTP {status} on /models"
            except RetryableError as error:
                alive = False
                self._count_failure(endpoint, str(error))
            if alive:
                endpoint.failures_in_a_row = 0
                endpoint.up.set()
                return

    def _all_dead(self) -> StageFailed:
        seen = "\n".join(f"  {one.url}: {one.num_failures} failures, last: {one.last_error}" for one in self._endpoints)
        return StageFailed(
            f"No endpoint answered a request for {self._limits.give_up_s:.0f} s.\n{seen}\n"
            "What came before is in the journal; the same command resumes."
        )


def backoff_s(first_s: float, request_id: str, tries: int) -> float:
    """Exponential pause with jitter: between 0.5 and 1 times `first_s` x 2^(tries - 1), at most `MAX_BACKOFF_S`.

    The jitter is a hash of the request and the try, so that it spreads requests and still repeats.
    """
    jitter = hashlib.sha256(f"{request_id}/{tries}".encode()).digest()[0] / 255
    return float(min(first_s * 2.0 ** min(tries - 1, 16), MAX_BACKOFF_S) * (0.5 + 0.5 * jitter))
