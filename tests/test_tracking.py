"""W&B: which mode is taken, what is found of a login, and what of the config and the machine is never sent."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from synthloop import tracking
from synthloop.config import Tracking
from synthloop.errors import UserError
from synthloop.store import read_json
from tests.wandb_files import history

KEY = "k" * 40


@pytest.mark.parametrize(
    ("asked", "named", "key", "mode"),
    [
        ("auto", None, True, "online"),
        ("auto", None, False, "offline"),
        ("auto", "offline", True, "offline"),
        ("auto", "dryrun", True, "offline"),
        ("auto", "disabled", True, "disabled"),
        ("auto", "online", True, "online"),
        ("auto", "shared", True, "online"),
        ("auto", "run", True, "online"),
        ("online", None, True, "online"),
        ("online", "offline", True, "offline"),
        ("online", "disabled", True, "disabled"),
        ("offline", None, True, "offline"),
        ("offline", "online", True, "offline"),
        ("offline", "disabled", True, "disabled"),
        ("off", "online", True, "disabled"),
    ],
)
def test_the_more_private_of_config_and_environment_is_taken(asked: Any, named: str, key: bool, mode: str) -> None:
    assert tracking.wandb_mode(asked, named, lambda: key) == mode


@pytest.mark.parametrize(
    ("asked", "named", "told"),
    [
        ("online", None, "has no key. Log in with `wandb login`, or set tracking.wandb=offline"),
        ("auto", "online", "has no key"),
        ("auto", "offlien", "WANDB_MODE is 'offlien'. Did you mean 'offline'"),
    ],
)
def test_what_cannot_be_is_the_users_error(asked: Any, named: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        tracking.wandb_mode(asked, named, lambda: False)


def test_a_key_is_looked_for_only_where_it_may_go_online() -> None:
    def unasked() -> bool:
        raise AssertionError

    assert tracking.wandb_mode("offline", None, unasked) == "offline"
    assert tracking.wandb_mode("auto", "offline", unasked) == "offline"


def mode_at(home: Path, **environment: str) -> str:
    """The mode of `tracking.wandb: auto` in a process of its own, whose home is `home`."""
    code = "from synthloop.tracking import *; print('mode', wandb_mode('auto', named_mode(), has_key))"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB") and key != "NETRC"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={**kept, "HOME": str(home), **environment}, cwd=home, capture_output=True, text=True, check=True
    )
    return done.stdout.split("mode ")[-1].strip()


def test_a_login_and_the_settings_of_wandb_are_seen(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(Path.cwd()), "WANDB_BASE_URL": "https://wandb.example"}
    assert mode_at(tmp_path, WANDB_MODE="", **environment) == "offline"
    (tmp_path / ".netrc").write_text(f"machine wandb.example\n  login user\n  password {KEY}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert mode_at(tmp_path, **environment) == "online"
    (tmp_path / ".config" / "wandb").mkdir(parents=True)
    (tmp_path / ".config" / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    assert mode_at(tmp_path, **environment) == "offline"


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"WANDB_DISABLED": "true", "WANDB_MODE": "online"}, "disabled"),
        ({"WANDB_DISABLED": "false", "WANDB_MODE": "Offline"}, "offline"),
        ({"WANDB_MODE": "online"}, "online"),
    ],
)
def test_the_environment_names_a_mode(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracking.named_mode() == named


def test_credentials_are_taken_out_of_the_config() -> None:
    config = {
        "base_urls": ["http://name:pass@127.0.0.1:1/v1", "http://127.0.0.1:2/v1"],
        "api_key": "x",
        "api_key_env": "MY_KEY",
        "headers": {"Authorization": "Bearer x"},
        "args": {"hf_token": "x", "pad_token": "<pad>", "max_tokens": 5},
    }
    assert tracking.without_credentials(config) == {
        "base_urls": ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"],
        "api_key": "(not sent)",
        "api_key_env": "MY_KEY",
        "headers": {"Authorization": "(not sent)"},
        "args": {"hf_token": "(not sent)", "pad_token": "<pad>", "max_tokens": 5},
    }


@pytest.mark.parametrize("value", ["off", False, "none"])
def test_ways_to_write_off(value: Any) -> None:
    assert Tracking(wandb=value).wandb == "off"


LOGS_ONCE = """
import sys
from pathlib import Path
from synthloop import tracking
from tests.generate.runs import build_run
run = build_run(Path("run"), tracking={"wandb": "offline"})
tracker = tracking.Tracker(run)
tracker._wandb.log({"round": 0, "eval/gate/exact": 0.5})
tracker.close()
"""


def test_an_offline_run_holds_no_credentials_and_says_where_it_is(tmp_path: Path) -> None:
    for command in (["init", "-q"], ["config", "remote.origin.url", "https://MARK-user:MARK-pass@git.example/a.git"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    environment = {**kept, "PYTHONPATH": str(Path.cwd()), "WANDB_API_KEY": "MARK-key" + KEY, "HOME": str(tmp_path)}
    command = [sys.executable, "-c", LOGS_ONCE, "MARK-argument"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "W&B: offline, in run/wandb. To send it: wandb sync run/wandb/offline-run-*" in done.stdout
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and "wandb" in path.parts]
    assert any(path.suffix == ".wandb" for path in files)
    found = {path.name for path in files if b"MARK-" in path.read_bytes()}
    assert found == set()


SESSIONS = """
import os, sys
from pathlib import Path
from synthloop import tracking
from tests.generate.runs import build_run
run = build_run(Path("run"), tracking={"wandb": "offline"})
for end, *rounds in map(str.split, sys.argv[1:]):
    wandb = tracking.Wandb(run, "offline")
    for round in map(int, rounds):
        wandb.log({"round": round, "eval/gate/exact": round / 10})
    os.kill(os.getpid(), 9) if end == "killed" else wandb.close()
"""


def test_rounds_of_a_killed_session_are_told_again(tmp_path: Path) -> None:
    """The loop tells the tracker of every decided round each time it starts."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}

    def sessions(*each: str) -> int:
        command = [sys.executable, "-c", SESSIONS, *each]
        environment = {**kept, "PYTHONPATH": str(Path.cwd()), "HOME": str(tmp_path)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False).returncode

    assert sessions("closed 0 1 1", "killed 0 1 2 3") == -signal.SIGKILL
    assert len(read_json(tmp_path / "run" / "wandb.json")["logged"]) == 2
    assert sessions("closed 0 1 2 3 4", "closed 0 1 2 3 4") == 0
    rounds = [[row["round"] for row in session] for session in history(tmp_path / "run")]
    assert set(itertools.chain(*rounds)) == set(range(5))
    assert rounds[-1] == [2, 3, 4], "what closed sessions had is not told again"
