"""Fixtures that several packages' tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import small_run
from tests.tiny import build_tiny_model

# The same examples on every machine, so that a change is judged by what it changed.
# `pytest --hypothesis-profile=default` looks for new ones.
settings.load_profile("ci")


LONGEST = ("test_whole_run.py", "test_crash.py", "test_real_data.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes test, a file stays in one, so that its fixtures are made once.

    The first two share the whole run. xdist 3.8 forgets its own groups (`--dist loadgroup`) under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "whole run" if file.endswith(LONGEST[:2]) else file

    return ByFile(config, log)


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
