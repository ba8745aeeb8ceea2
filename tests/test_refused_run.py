"""`synthloop run` beside a teacher that refuses everything: exit 4 with its words, and the same command resumes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from synthloop import cli
from tests.engines.test_server import FAST, FakeEndpoint

ROOT = Path(__file__).parents[1]


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    fake = FakeEndpoint()
    yield fake
    fake.stop()


def test_a_refused_run_fails_tells_and_resumes(
    tmp_path: Path, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    server = {"engine": "server", "base_urls": [endpoint.base_url], **FAST}
    settings = {
        "rounds": 1,
        "task": {"name": "word_problems"},
        "splits": {"train": 40, "probe": 8, "gate": 8, "test": 8},
        "student": {**server, "model": str(ROOT / "quickstart" / "student")},
        "roles": {"teacher": {**server, "model": "teacher"}},
        "generate": {"recipes": [{"name": "variation"}], "num_seeds": 40},
        "collapse": {"enabled": False},
        "tracking": {"wandb": "off"},
        "train": {"accelerate": str(ROOT / "configs" / "accelerate" / "cpu.yaml")},
    }
    (tmp_path / "c.yaml").write_text(json.dumps(settings))
    command = ["run", str(tmp_path / "c.yaml"), "--run-dir", str(tmp_path / "run")]
    endpoint.answer = lambda body: 400 if body["model"] == "teacher" else None
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 4
    assert "none of the first 32 requests was served" in done.output
    assert "refused with 400" in done.output
    assert "refused with 400" in (tmp_path / "run" / "report.html").read_text()
    endpoint.answer = lambda body: None
    done = CliRunner().invoke(cli.app, command)
    # The teacher echoes its prompt, which no filter keeps.
    assert done.exit_code == 0
    assert done.output.splitlines()[-1].startswith("Nothing was trained: no sample was kept by curation (format: ")
