"""Stages `generate` and `curate` beside a server that refuses: they fail, say what it said, and can be resumed."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from generate import curate
from generate import run as generate_run
from generate.rehearsal import instance
from synthloop.errors import StageFailed
from synthloop.records import Candidate
from synthloop.store import Run, read_json, read_rows
from tests.engines.test_server import FAST, FakeEndpoint
from tests.generate.runs import build_run
from tests.generate.scripted import ROLE


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    fake = FakeEndpoint()
    yield fake
    fake.stop()


def make_run(root: Path, endpoint: FakeEndpoint, **changes: Any) -> Run:
    teacher = {"engine": "server", "model": "m", "base_urls": [endpoint.base_url], "max_retries": 1, **FAST}
    generate = {"num_seeds": 160, "max_in_flight": 64}
    filters = [{"name": "judge"}] if "judge" in changes.get("roles", {}) else [{"name": "format"}]
    roles = {"teacher": teacher, **changes.pop("roles", {})}
    return build_run(root, roles=roles, generate=generate, curate={"filters": filters}, **changes)


def generate(run: Run) -> dict[str, Any]:
    generate_run.main(argparse.Namespace(run=run.root, round=1))
    return run.stage(1, "generate").record()


@pytest.mark.parametrize("status", [400, 500])
def test_a_server_that_refuses_all_fails_the_stage_early_and_a_healthy_one_completes_it(
    tmp_path: Path, endpoint: FakeEndpoint, status: int
) -> None:
    run = make_run(tmp_path, endpoint)
    endpoint.answer = lambda body: status
    with pytest.raises(StageFailed, match=f"none of the first 32 requests was served.*\n.*refused with {status}"):
        generate(run)
    assert not run.stage(1, "generate").is_complete
    assert len(endpoint.bodies) < 160
    endpoint.answer = lambda body: None
    record = generate(run)
    assert (record["candidates"] + record["rejected"], record["errors"]) == (160, 0)


class Sometimes:
    """Refuses each `nth` of the distinct bodies."""

    def __init__(self, nth: int) -> None:
        self._nth, self._seen = nth, 0

    def __call__(self, body: dict[str, Any]) -> int | None:
        self._seen += 1
        return 400 if self._seen % self._nth == 0 else None


def test_a_quarter_of_refusals_is_too_much_unless_the_share_says_otherwise(
    tmp_path: Path, endpoint: FakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.answer = Sometimes(4)
    run = make_run(tmp_path, endpoint)
    with pytest.raises(StageFailed, match=r"requests were not served, above max_error_share=0\.05"):
        generate(run)
    asked = len(endpoint.bodies)
    raised = make_run(tmp_path, endpoint, max_error_share=0.5)
    with caplog.at_level(logging.WARNING):
        record = generate(raised)
    assert 0 < record["errors"] < 0.5 * record["requests"]
    (kind,) = record["error_messages"]
    assert (kind["role"], kind["count"]) == ("teacher", record["errors"])
    assert "refused with 400" in kind["message"]
    assert "requests were not served and are left out" in caplog.text
    assert record["journal_hits"] > 0.5 * asked, "what was answered before is not asked again"


def test_judges_that_cannot_be_asked_fail_the_stage_and_refuse_nothing(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    judge = {"engine": "server", "model": "m", "base_urls": [endpoint.base_url], **FAST}
    run = make_run(tmp_path, endpoint, roles={"teacher": ROLE, "judge": judge})
    generate(run)
    endpoint.answer = lambda body: 400
    arguments = argparse.Namespace(run=run.root, round=1)
    with pytest.raises(StageFailed, match="filter judge: none of the first 32 requests was served"):
        curate.main(arguments)
    assert not run.stage(1, "curate").is_complete
    endpoint.answer = lambda body: None
    with pytest.raises(StageFailed, match="160 of 160 replies that were to be JSON cannot be used: 160 not what"):
        curate.main(arguments)
    endpoint.writes = lambda body: json.dumps(instance(body["structured_outputs"]["json"], 4))
    curate.main(arguments)
    funnel = read_json(run.round_dir(1) / "funnel.json")
    assert funnel["candidates"] == len(read_rows(run.round_dir(1) / "candidates.jsonl", Candidate))
    assert not any("engine error" in one["kind"] for one in funnel["reasons"])
    record = run.stage(1, "curate").record()
    assert (record["errors"], record["error_messages"], record["devices"]) == (0, [], 0)
