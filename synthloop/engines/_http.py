"""HTTP with servers that may send anything: each exchange is bounded, and whatever goes wrong is its own failure.

A redirect is not followed, so prompts and key go to the configured address only. No compressed reply is asked for and
none is unpacked, so the bytes that are read are the bytes that are held.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from synthloop.storable import loads

# Chosen, not measured.
CONNECT_TIMEOUT_S = 10.0
MAX_RETRY_AFTER_S = 30.0
MAX_MESSAGE = 500  # characters


class Answer(NamedTuple):
    """A whole reply. `location` is where a redirect leads, `pause_s` the wait that the server asks for."""

    status: int
    content: bytes
    location: str | None
    pause_s: float


class RetryableError(Exception):
    """An attempt that may succeed elsewhere or later. `charged`: the request may be to blame."""

    def __init__(self, message: str, *, charged: bool, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.charged = charged
        self.pause_s = pause_s


class Client:
    """A session of connections; made inside the event loop that uses it."""

    def __init__(self, api_key: str | None, timeout_s: float) -> None:
        self._secrets = {form for form in (api_key, urllib.parse.quote(api_key or "", safe="")) if form}
        headers = {"Accept-Encoding": "identity"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def post(self, url: str, body: Mapping[str, Any], max_bytes: int) -> Answer:
        """The reply to a JSON `body`, of at most `max_bytes`. Raises `RetryableError`."""
        async with self._request("POST", url, json=body) as reply:
            content = await _read(reply, max_bytes)
            headers = reply.headers
            return Answer(reply.status, content, headers.get("Location"), _retry_after_s(headers))

    async def status(self, url: str) -> int:
        """The status of a GET, its body left unread. Raises `RetryableError`."""
        timeout = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT_S)
        async with self._request("GET", url, timeout=timeout) as reply:
            return reply.status

    async def close(self) -> None:
        await self._session.close()

    def hidden(self, text: str) -> str:
        """`text` as it may be stored: without the API key."""
        for secret in self._secrets:
            text = text.replace(secret, "[api key]")
        return text

    def shown(self, text: str, max_length: int = MAX_MESSAGE) -> str:
        """`text` as it may be shown: without the API key, and cut after `max_length` characters."""
        text = self.hidden(text)
        return text if len(text) <= max_length else f"{text[:max_length]}..."

    @asynccontextmanager
    async def _request(self, method: str, url: str, **settings: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.request(method, url, allow_redirects=False, **settings) as reply:
                yield reply
        except RetryableError:
            raise
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise RetryableError(self.shown(f"no connection ({error})"), charged=False) from error
        except Exception as error:  # bytes of a server can make any part of the HTTP client fail, in any way
            raise RetryableError(self.shown(f"{type(error).__name__}: {error}"), charged=True) from error


async def _read(reply: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    encoding = reply.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise RetryableError(f"the reply is compressed ({encoding[:40]}), which was not asked for", charged=True)
    content = bytearray()
    async for chunk in reply.content.iter_any():
        content += chunk
        if len(content) > max_bytes:
            raise RetryableError(
                f"the reply is larger than {max_bytes:,} bytes. If it should be, set max_reply_bytes.", charged=True
            )
    return bytes(content)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    value = headers.get("Retry-After", "")
    return min(float(value), MAX_RETRY_AFTER_S) if value.isdecimal() else 0.0


def redirection(url: str, location: str) -> str:
    """What is said of a server at `url` that sends us elsewhere, to `location`."""
    try:
        target = urllib.parse.urlsplit(urllib.parse.urljoin(url, location))
        named = target._replace(netloc=target.netloc.rpartition("@")[2], query="", fragment="").geturl()
    except ValueError:
        named = "an address that can't be read"
    return (
        f"{url} redirects to {named[:MAX_MESSAGE]}. Redirects are not followed: the prompts and the key would go "
        "there. If that is the server you mean, put its address into base_urls."
    )


def message(content: bytes) -> str:
    """The message in an OpenAI error body, or whatever came."""
    text = content.decode("utf-8", errors="replace")
    try:
        found = loads(text)
        error = found.get("error", found)
        return str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        return text
