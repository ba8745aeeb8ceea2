"""A server on loopback that misbehaves as it is told: `OddServer` and the table of what it can send.

A request whose prompt is a name in `REPLIES` gets those bytes; any other prompt is echoed as a good reply.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

ENDLESS = 32 * 2**20  # what an "endless" body has, bounded
GOOD: dict[str, Any] = {
    "choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2},
}


def http(body: bytes | str, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A whole response that closes its connection. `length` is what Content-Length says, the truth by default."""
    content = body.encode() if isinstance(body, str) else body
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(content) if length is None else length}", *headers)
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content


def good(**changes: Any) -> str:
    """A good reply with fields of its choice, or else of the whole, replaced."""
    choice = {**GOOD["choices"][0], **{name: value for name, value in changes.items() if name not in WHOLE}}
    whole = {name: value for name, value in changes.items() if name in WHOLE}
    return json.dumps({**GOOD, "choices": [choice], **whole})


WHOLE = ("choices", "usage", "prompt_logprobs", "error")
DEEP = "[" * 100_000
ERROR_DEEP = '{"error":' * 100_000
CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


def usage(prompt: str, completion: str = "1") -> str:
    """A good reply whose token counts are given as JSON."""
    return good(usage="U").replace('"U"', f'{{"prompt_tokens": {prompt}, "completion_tokens": {completion}}}')


def content(text: str) -> str:
    """A good reply whose text is given as JSON."""
    return good(message={"content": "T"}).replace('"T"', text)


# Refused: the attempt fails, and the request ends as an error after its retries.
REFUSED: dict[str, bytes] = {
    # no JSON of ours
    "empty": http(""),
    "html": http("<html><body>502 Bad Gateway</body></html>", "Content-Type: text/html"),
    "prose": http("Internal Server Error"),
    "not UTF-8": http(b'{"choices": "\xff\xfe\xfa"}'),
    "latin-1": http(content('"caf\u00e9"').encode("latin-1"), "Content-Type: application/json; charset=latin-1"),
    "cut JSON": http(good()[:-9]),
    "trailing junk": http(good() + " junk"),
    "two values": http(good() + good()),
    "nested lists": http(DEEP),
    "nested objects": http('{"choices":' * 100_000),
    "event stream": http(f"data: {good()}\n\ndata: [DONE]\n\n", "Content-Type: text/event-stream"),
    "zeros": http(bytes(1000)),
    "null": http("null"),
    "number": http("1"),
    "string": http('"choices"'),
    "list": http(f"[{good()}]"),
    "empty object": http("{}"),
    "error with 200": http(json.dumps({"error": {"message": "overloaded"}})),
    # missing and mistyped
    "no choices": http(json.dumps({"usage": GOOD["usage"]})),
    "empty choices": http(good(choices=[])),
    "choices null": http(good(choices=None)),
    "choices an object": http(good(choices={"0": 1})),
    "choices a string": http(good(choices="abc")),
    "choice null": http(good(choices=[None])),
    "choice a list": http(good(choices=[[1]])),
    "no message": http(good(choices=[{"finish_reason": "stop"}])),
    "message null": http(good(message=None)),
    "message a string": http(good(message="fine")),
    "message without content": http(good(message={})),
    "content a number": http(content("5")),
    "content zero": http(content("0")),
    "content false": http(content("false")),
    "thoughts alone": http(good(message={"reasoning": "so", "content": None})),
    "content a list": http(content('[{"type": "text"}]')),
    "content a part of null": http(content('[{"type": "text", "text": null}]')),
    "content a picture": http(content('[{"type": "image_url", "image_url": {"url": "x"}}]')),
    "content a list of numbers": http(content("[1]")),
    "text an object": http(good(text={})),
    "no finish_reason": http(good(choices=[{"message": {"content": "a"}}])),
    "finish_reason a list": http(good(finish_reason=["stop"])),
    "finish_reason null": http(good(finish_reason=None)),
    "finish_reason unknown": http(good(finish_reason="x" * 100_000)),
    "usage of 5,000 digits": http(usage("9" * 5_000)),
    "prompt_logprobs of numbers": http(good(prompt_logprobs=[[1]])),
    "prompt_logprobs a number": http(good(prompt_logprobs=1)),
    "prompt_logprobs of text": http(good(prompt_logprobs=[{"1": {"logprob": "low"}}])),
    "prompt_logprobs of empty objects": http(good(prompt_logprobs=[{"1": {}}])),
    "logprobs a list": http(good(logprobs=[1])),
    "logprobs of text": http(good(logprobs={"content": [{"logprob": "low"}]})),
    "logprobs of nothing": http(good(logprobs={"content": [None]})),
    "token_logprobs with null": http(good(logprobs={"token_logprobs": [None]})),
    "logprob of 400 digits": http(good(logprobs={"content": [{"logprob": 10**400}]})),
    # HTTP
    "no answer": b"",
    "no HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    "status line alone": b"HTTP/1.1 200 OK\r\n",
    "status zero": http(good(), status="000 Zero"),
    "status a word": http(good(), status="OK"),
    "status 999": http(good(), status="999 Odd"),
    "HTTP version 9": http(good()).replace(b"HTTP/1.1", b"HTTP/9.9"),
    "204": b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    "206": http(good(), status="206 Partial Content"),
    "304": b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "content-length too long": http(good(), length=100_000),
    "content-length too short": http(good(), length=20),
    "content-length negative": http(good(), length=-1),
    "content-length a word": http(good()).replace(b"Content-Length: ", b"Content-Length: x"),
    "two content-lengths": http(good(), "Content-Length: 3"),
    "length and chunks": http(good(), "Transfer-Encoding: chunked"),
    "cut chunk": f"{CHUNKED}ff\r\n{good()}".encode(),
    "no last chunk": f"{CHUNKED}{len(good()):x}\r\n{good()}\r\n".encode(),
    "chunk size a word": f"{CHUNKED}wide\r\n{good()}\r\n0\r\n\r\n".encode(),
    "chunk size huge": f"{CHUNKED}{'f' * 40}\r\n{good()}\r\n0\r\n\r\n".encode(),
    "unknown transfer encoding": http(good(), "Transfer-Encoding: rot13"),
    "header without colon": http(good(), "Odd"),
    "header of 1 MB": http(good(), "X-Odd: " + "x" * 1_000_000),
    "header with NUL": http(good(), "X-Odd: a\x00b"),
    "header name empty": http(good(), ": odd"),
    "10,000 headers": http(good(), *("X-Odd: 1" for _ in range(10_000))),
    "gzip": http(gzip.compress(good().encode()), "Content-Encoding: gzip"),
    "gzip that is not": http(good(), "Content-Encoding: gzip"),
    "gzip cut": http(gzip.compress(good().encode())[:-9], "Content-Encoding: gzip"),
    "gzip that expands": http(gzip.compress(bytes(ENDLESS)), "Content-Encoding: gzip"),
    "deflate that is not": http(zlib.compress(b"x"), "Content-Encoding: deflate"),
    "unknown encoding": http(good(), "Content-Encoding: rot13"),
    "too large": http(good() + " " * (4 * 2**20)),
    # statuses
    "400": http('{"error": {"message": "no"}}', status="400 Bad Request"),
    "400 nested": http(ERROR_DEEP, status="400 Bad Request"),
    "400 null": http("null", status="400 Bad Request"),
    "400 error a list": http('{"error": [1, {"message": 2}]}', status="400 Bad Request"),
    "400 message an object": http('{"error": {"message": {"a": 1}}}', status="400 Bad Request"),
    "400 long": http("x" * 900_000, status="400 Bad Request"),
    "400 escapes": http('{"error": {"message": "\\u001b[31m\\ud83d"}}', status="400 Bad Request"),
    "400 not UTF-8": http(b"\xff\xfe", status="400 Bad Request"),
    "500": http("{}", status="500 Error"),
    "500 nested": http(DEEP, status="500 Error"),
    "500 nested error": http(ERROR_DEEP, status="500 Error"),
    "500 not UTF-8": http(b"\xff\xfe", "Content-Type: text/plain; charset=utf-8", status="500 Error"),
    "500 unknown charset": http("no", "Content-Type: text/plain; charset=rot13", status="500 Error"),
    "500 integer of 5,000 digits": http("9" * 5_000, status="500 Error"),
    "500 Retry-After superscript": http("no", "Retry-After: \u00b2", status="500 Error"),
    "500 Retry-After negative": http("no", "Retry-After: -5", status="500 Error"),
    "500 Retry-After NaN": http("no", "Retry-After: nan", status="500 Error"),
    "500 Retry-After a date": http("no", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT", status="500 Error"),
}  # fmt: skip

# Kept: odd, and a reply all the same.
KEPT: dict[str, bytes] = {
    "charset rot13": http(good(), "Content-Type: application/json; charset=rot13"),
    "content type odd": http(good(), "Content-Type: ;;=;charset"),
    "byte order mark": http(b"\xef\xbb\xbf" + good().encode()),
    "duplicate keys": http('{"choices": 1, ' + good()[1:]),
    "unknown keys": http(good(seven={"a": [7]})),
    "content null": http(content("null")),
    "reasoning a number": http(good(message={"content": "a", "reasoning": 5})),
    "refusal a number": http(good(message={"content": "a", "refusal": 5})),
    "content in parts": http(content('[{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]')),
    "content with another part": http(content('[{"type": "reference"}, {"type": "text", "text": "a"}]')),
    "refusal": http(good(message={"content": None, "refusal": "no"})),
    "finish_reason of another protocol": http(good(finish_reason="end_turn")),
    "content an empty list": http(content("[]")),
    "no usage": http(json.dumps({"choices": GOOD["choices"]})),
    "usage null": http(good(usage=None)),
    "usage a list": http(good(usage=[5, 2])),
    "usage empty": http(good(usage={})),
    "usage negative": http(usage("-1")),
    "completion negative": http(usage("1", "-1")),
    "usage 2^63": http(usage(str(2**63))),
    "completion 2^63": http(usage("1", str(2**63))),
    "usage infinite": http(usage("1e999")),
    "usage NaN": http(usage("NaN")),
    "usage a fraction": http(usage("1.5")),
    "usage a word": http(usage('"many"')),
    "usage an object": http(usage("{}")),
    "half a surrogate pair": http(content('"\\ud83d"')),
    "half a surrogate pair, raw": http(content('"RAW"').encode().replace(b"RAW", b"\xed\xa0\xbd")),
    "control characters": http(content('"\\u0000\\u001b[31m"')),
    "logprob NaN": http(good(logprobs={"content": [{"logprob": float("nan")}]})),
    "logprob infinite": http(good(logprobs={"token_logprobs": [float("-inf")]})),
    "prompt_logprobs NaN": http(good(prompt_logprobs=[None, {"1": {"logprob": float("nan")}}])),
    "usage 2^63 - 1": http(usage(str(2**63 - 1))),
    "usage whole fraction": http(usage("7.0")),
    "completion null": http(usage("1", "null")),
    "identity": http(good(), "Content-Encoding: identity"),
    "cookies": http(good(), *(f"Set-Cookie: c{i}={'x' * 50}; Domain=other" for i in range(50))),
    "no content-length": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + good().encode(),
    "HTTP 1.0": http(good()).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "informational first": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20 + http(good()),
}  # fmt: skip


def _pieces(first: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    def send() -> Iterator[bytes]:
        yield first
        for _ in range(ENDLESS // len(piece)):
            yield piece

    return send


_PIECE = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
ENDLESS_REPLIES: dict[str, Callable[[], Iterator[bytes]]] = {
    "endless chunks": _pieces(CHUNKED.encode(), _PIECE * 16),
    "endless body": _pieces(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" " * 65_536),
    "endless error": _pieces(CHUNKED.replace("200 OK", "500 Error").encode(), _PIECE * 16),
    "endless headers": _pieces(b"HTTP/1.1 200 OK\r\n", b"X-Odd: 1\r\n" * 4096),
    "endless header": _pieces(b"HTTP/1.1 200 OK\r\nX-Odd: ", b"x" * 65_536),
    "endless gzip": _pieces(CHUNKED.replace("\r\n\r\n", "\r\nContent-Encoding: gzip\r\n\r\n").encode(), _PIECE * 16),
}
SILENT = ("silent", "half a status line", "half a body")


class OddServer:
    """Answers in a thread of its own. `sent` counts the bytes of each endless reply that could be sent."""

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.accepted: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result(10)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client had enough
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("GET"):
            writer.write(http("{}"))
            return
        headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
        self.accepted.append(headers.get("accept-encoding", ""))
        name = json.loads(await reader.readexactly(int(headers["content-length"])))["messages"][-1]["content"]
        if name in SILENT:
            writer.write({"silent": b"", "half a status line": b"HTTP/1.", "half a body": http("{", length=9)}[name])
            await reader.read()  # until the client has waited enough
        for piece in ENDLESS_REPLIES[name]() if name in ENDLESS_REPLIES else ():
            writer.write(piece)
            await writer.drain()
            self.sent[name] = self.sent.get(name, 0) + len(piece)
        if name not in ENDLESS_REPLIES:
            echo = http(good(message={"content": name}))
            writer.write({**REFUSED, **KEPT}.get(name, echo))
            await writer.drain()
