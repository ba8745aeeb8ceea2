"""`check --online` against a hub on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from typer.testing import CliRunner

from synthloop import cli

ROOT = Path(__file__).parents[1]
MODEL = {"id": "org/open", "sha": "1" * 40, "siblings": [{"rfilename": "config.json"}], "gated": False}
CARD = {"configs": [{"config_name": "main"}, {"config_name": "socratic"}]}
ANSWERS: dict[str, tuple[int, dict[str, str], dict[str, object]]] = {
    "/api/models/org/open": (200, {}, MODEL),
    "/api/models/org/bare": (200, {}, {**MODEL, "siblings": []}),
    "/api/models/org/gated": (200, {}, {**MODEL, "id": "org/gated", "gated": "manual"}),
    "/api/models/org/gated/auth-check": (403, {"X-Error-Code": "GatedRepo"}, {"error": "gated"}),
    "/api/models/org/open/revision/v9": (404, {"X-Error-Code": "RevisionNotFound"}, {"error": "no revision"}),
    "/api/models/org/gone": (404, {"X-Error-Code": "RepoNotFound"}, {"error": "not found"}),
    "/api/models/org/broken": (500, {}, {"error": "broken"}),
    "/api/datasets/org/rows": (200, {}, {"id": "org/rows", "sha": "2" * 40, "siblings": [], "cardData": CARD}),
}


class Hub(BaseHTTPRequestHandler):
    """Answers what `ANSWERS` says, and notes what it was asked."""

    asked: list[str] = []  # noqa: RUF012 - one list for all requests is the point

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        status, headers, body = ANSWERS.get(path, (404, {"X-Error-Code": "RepoNotFound"}, {"error": path}))
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def check(hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Runs the command on a config with this student and subset: (exit code, output)."""

    def run(student: dict[str, str], subset: str, *options: str, endpoint: str = hub) -> tuple[int, str]:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        task = {"name": "jsonl", "dataset": "org/rows", "subset": subset, "scorer": "exact"}
        accelerate = str(ROOT / "configs/accelerate/cpu.yaml")
        (tmp_path / "c.yaml").write_text(
            yaml.safe_dump({"task": task, "student": student, "train": {"accelerate": accelerate}})
        )
        done = CliRunner().invoke(cli.app, ["check", str(tmp_path / "c.yaml"), *options], env={"COLUMNS": "400"})
        return done.exit_code, done.output

    return run


Check = Callable[..., tuple[int, str]]


@pytest.mark.parametrize(
    ("student", "subset", "code", "message"),
    [
        ({"model": "org/open"}, "main", 0, "org/open: model, revision 111111111111, 1 files"),
        ({"model": "org/open"}, "mian", 2, "'task.dataset': 'org/rows' has no subset 'mian'. Did you mean 'main'?"),
        ({"model": "org/open", "revision": "v9"}, "main", 2, "'student.model': 'org/open' has no revision 'v9'."),
        ({"model": "org/gated"}, "main", 2, "'student.model': 'org/gated' is gated: accept its terms at https://"),
        ({"model": "org/gone"}, "main", 2, "'student.model': the hub has no model 'org/gone', or it is private"),
        ({"model": "org/bare"}, "main", 2, "'org/bare' has no config.json"),
        ({"model": "org/broken"}, "main", 2, "the hub did not answer for 'org/broken': "),
    ],
)
def test_what_the_hub_says(check: Check, student: dict[str, str], subset: str, code: int, message: str) -> None:
    returned, said = check(student, subset, "--online")
    assert returned == code, said
    assert message in said, said


def test_without_the_flag_nobody_is_asked(check: Check) -> None:
    Hub.asked.clear()
    code, said = check({"model": "org/gone"}, "main")
    assert (code, Hub.asked) == (0, [])
    assert "on the Hugging Face hub: org/gone, org/rows. `synthloop check --online` asks it" in said


def test_no_hub_at_all(check: Check) -> None:
    code, said = check({"model": "org/open"}, "main", "--online", endpoint="http://127.0.0.1:9")
    assert code == 2
    assert "the hub did not answer for 'org/open': " in said
