"""Credentials found whole, masked or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from generate.curate import curate
from generate.curation import FilterContext
from generate.filters import secrets
from synthloop.config import PluginRef
from synthloop.errors import UserError
from tests.generate import rows
from tests.generate.runs import build_run

pytest.importorskip("detect_secrets")

# Put together here so that no scanner takes this file for a leak.
GITHUB = "ghp_" + "abcdefghij0123456789ABCDEFGHIJ012345"
JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
    + "eyJzdWIiOiIxMjM0NTY3ODkwIn0."
    + "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
)
PEM = "-----BEGIN RSA PRIVATE " + "KEY-----\nMIIEowIBAAKCAQEA7\nq1w2e3r4\n-----END RSA PRIVATE " + "KEY-----"


def found(text: str, **settings: tuple[str, ...]) -> list[tuple[str, str]]:
    return [tuple(one) for one in secrets.finder(secrets.Config(**settings))(text)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        (f"Use {GITHUB}.", "GITHUB_TOKEN", GITHUB),
        (f"first line\nbearer {JWT} there", "JSON_WEB_TOKEN", JWT),
        ("key AKIA" + "QWERTYUIOP123456 is", "AWS_ACCESS_KEY", "AKIA" + "QWERTYUIOP123456"),
        ('password = "hunter2xyz"', "SECRET_KEYWORD", "hunter2xyz"),
        ("stripe sk_live_" + "abcdefghijklmnop12345678", "STRIPE_ACCESS_KEY", "sk_live_" + "abcdefghijklmnop12345678"),
        (f"keep\n{PEM}\nthis", "PRIVATE_KEY", PEM.removeprefix("-----")),
    ],
)
def test_a_secret_is_found_whole(text: str, kind: str, value: str) -> None:
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "the password is 12 letters long",
        "password = '${PASSWORD}'",
        "api_key = '<your key>'",
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "Tom has 3 apples and buys 4 more. #### 7",
    ],
)
def test_what_is_none(text: str) -> None:
    assert found(text) == []


def test_masked_or_refused(tmp_path: Path) -> None:
    ctx = FilterContext(build_run(tmp_path / "run"), 1)
    batch = [rows.candidate(0, input=f"Read\n{PEM}\nnow", completion=f"x\n{PEM}\n#### 5"), rows.candidate(1)]
    (masked, other), _ = curate(batch, [PluginRef.model_validate({"name": "secrets", "action": "mask"})], ctx)
    assert masked.input == "Read\n-----[PRIVATE_KEY_1]\nnow"
    assert masked.completion == "x\n-----[PRIVATE_KEY_1]\n#### 5"
    assert "MIIE" not in masked.model_dump_json()
    assert other == batch[1]
    refused, kept = secrets.check(secrets.Config(), batch, ctx)
    assert (refused.keep, refused.reason, kept.keep) == (False, "PRIVATE_KEY: 1 PRIVATE_KEY", True)


def test_detectors_can_be_left_out() -> None:
    assert found('password = "hunter2xyz"', exclude=("KeywordDetector",)) == []
    with pytest.raises(UserError, match="Did you mean 'KeywordDetector'"):
        found("", exclude=("KeywordDetecter",))
