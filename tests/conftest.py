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
