"""Fixtures that several packages' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests import small_run
from tests.tiny import build_tiny_model

# The same examples on every machine, so that a change is judged by what it changed.
# `pytest --hypothesis-profile=default` looks for new ones.
settings.load_profile("ci")


LONGEST = ("test_whole_run.py", "test_crash.py", "test_real_data.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes test, a file stays in one, so that its fixtures are made once; the longest files begin.

    The first two share the whole run.
    """
    for item in items:
        name = item.path.name
        item.add_marker(pytest.mark.xdist_group("whole-run" if name in LONGEST[:2] else item.nodeid.split("::")[0]))
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny Llama on disk, read-only by agreement: a test that changes it makes its own."""
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the small quickstart, read-only by agreement, tracked by W&B offline."""
    root = tmp_path_factory.mktemp("runs") / "whole"
    small_run.run(root, "tracking.wandb=offline")
    return root
