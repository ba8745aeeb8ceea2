"""Passwords and keys never get past the reading of a config, and never into a message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synthloop.config import load_config
from synthloop.credentials import find_credentials, without_credentials
from synthloop.errors import UserError
from train.run import read_job

SECRET = "hunter2"

HOLDING: dict[str, tuple[str, Any]] = {
    "user and password": ("roles.teacher.base_urls.0", {"roles": {"teacher": {"base_urls": [f"http://me:{SECRET}@h/v1"]}}}),
    "one url": ("roles.teacher.0.base_urls", {"roles": {"teacher": [{"base_urls": f"http://me:{SECRET}@h/v1"}]}}),
    "user alone": ("task.url", {"task": {"url": f"https://{SECRET}@h/data"}}),
    "query": ("roles.teacher.base_urls.0", {"roles": {"teacher": {"base_urls": [f"http://h/v1?api_key={SECRET}"]}}}),
    "later in a query": ("task.path", {"task": {"path": f"https://h/v1?a=b&Token={SECRET}#x"}}),
    "Hugging Face": ("student.args.hf_token", {"student": {"model": "m", "args": {"hf_token": SECRET}}}),
    "TRL": ("train.args.hub_token", {"train": {"args": {"hub_token": SECRET}}}),
    "transformers": ("student.args.token", {"student": {"args": {"token": SECRET}}}),
    "the key itself": ("roles.teacher.api_key", {"roles": {"teacher": {"api_key": SECRET}}}),
}  # fmt: skip


@pytest.mark.parametrize(("where", "settings"), HOLDING.values(), ids=HOLDING)
def test_a_secret_in_a_config_is_named_and_not_shown(where: str, settings: Any, tmp_path: Path) -> None:
    assert list(find_credentials(settings)) == [where]
    path = tmp_path / "run.yaml"
    path.write_text(f"rounds: wrong\n{_yaml(settings)}", encoding="utf-8")
    for read in (load_config, lambda path: read_job(path, [])):
        with pytest.raises(UserError) as refused:
            read(path)
        assert where in str(refused.value)
        assert "environment variable" in str(refused.value)
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "override",
    [
        f"roles.teacher.base_urls=[http://me:{SECRET}@h/v1]",
        f"rounds.0=http://me:{SECRET}@h/v1",
        f"http://me:{SECRET}@h/v1",
        f"rounds=[http://h/v1?api_key={SECRET}",
    ],
)
def test_a_secret_in_an_override_is_not_shown(override: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("rounds: 1\nstudent: {model: m}\ntask: {name: t}\n", encoding="utf-8")
    with pytest.raises(UserError) as refused:
        load_config(path, [override])
    assert SECRET not in str(refused.value)


def test_broken_yaml_shows_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"roles: {{teacher: {{base_urls: [http://me:{SECRET}@h/v1}}}}\n", encoding="utf-8")
    with pytest.raises(UserError) as refused:
        load_config(path)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key_env": "OPENAI_API_KEY", "base_urls": ["http://host:8000/v1", "https://[::1]:8000/v1"]},
        {"sampling": {"stop": "@", "max_tokens": 5}, "args": {"hf_token": True, "token": None}},
        {"task": {"prompt": "Never print http://user:word@host in an answer.", "path": "data@home/a?b"}},
    ],
)
def test_what_is_no_secret_passes(settings: Any) -> None:
    assert list(find_credentials(settings)) == []


def test_only_the_secret_is_left_out() -> None:
    text = "no connection to http://me:pw@host:80/v1?api_key=abc&x=1 (refused), see https://docs/a@b"
    assert without_credentials(text) == (
        "no connection to http://[hidden]@host:80/v1?api_key=[hidden]&x=1 (refused), see https://docs/a@b"
    )


def _yaml(settings: Any) -> str:
    import yaml

    return str(yaml.safe_dump(settings))
