"""Whatever a server sends is one attempt's failure or a reply that can be stored; what is read of it is bounded."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synthloop.engines import complete_all, identity, server
from synthloop.journal import Journal
from synthloop.records import Completion
from tests.engines.conftest import ask
from tests.engines.odd_replies import ENDLESS, ENDLESS_REPLIES, KEPT, REFUSED, SILENT, OddServer

FAST: dict[str, Any] = {"backoff_s": 0.01, "cool_down_s": 0.01, "give_up_s": 60.0, "timeout_s": 1.5, "max_retries": 1}
ODD = (*REFUSED, *KEPT, *ENDLESS_REPLIES, *SILENT)


@pytest.fixture(scope="module")
def odd_server() -> Iterator[OddServer]:
    odd = OddServer()
    yield odd
    odd.close()


def test_every_odd_reply_is_one_requests_failure_and_the_good_are_answered(
    odd_server: OddServer, tmp_path: Path
) -> None:
    assert len(ODD) >= 80
    names = [name for odd in ODD for name in (odd, f"good {odd}")]
    asked = [ask(name, id=name, max_tokens=16) for name in names]
    cfg = server.Config(model="m", base_urls=(odd_server.base_url,), max_concurrency=16, **FAST)
    with Journal(tmp_path / "journal.sqlite", "test") as journal:
        engine = server.open(cfg)
        try:
            replies = {one.request_id: one for one in complete_all(engine, asked, journal, identity(cfg))}
        finally:
            engine.close()
    assert {name: replies[name].error for name in KEPT if replies[name].finish_reason != "stop"} == {}
    assert {name: replies[name].text for name in ODD if replies[f"good {name}"].text != f"good {name}"} == {}
    refused = (*REFUSED, *ENDLESS_REPLIES, *SILENT)
    assert [name for name in refused if replies[name].finish_reason != "error"] == []
    assert [name for name in refused if not 0 < len(replies[name].error or "") < 700] == []
    for reply in replies.values():
        assert Completion.model_validate_json(reply.model_dump_json()) == reply
    assert set(odd_server.accepted) == {"identity"}
    # Two attempts each, and what the sockets of this machine hold beside what was read.
    assert {name: size for name, size in odd_server.sent.items() if size > ENDLESS} == {}


def test_memory_is_bounded_however_much_comes(odd_server: OddServer) -> None:
    """64 replies of 32 MiB at once, of which each may have 100 kB."""
    asked = [ask("endless chunks", id=str(i), max_tokens=16, seed=i) for i in range(64)]
    settings = {**FAST, "max_retries": 0, "max_reply_bytes": 100_000, "timeout_s": 20.0}
    engine = server.open(server.Config(model="m", base_urls=(odd_server.base_url,), **settings))
    odd_server.sent.clear()
    tracemalloc.start()
    try:
        replies = complete_all(engine, asked)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        engine.close()
    assert all("100,000 bytes" in (one.error or "") for one in replies)
    assert peak < 100e6
    assert odd_server.sent["endless chunks"] < 64 * ENDLESS / 2
