"""Fixtures that several packages' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import build_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny Llama on disk, read-only by agreement: a test that changes it makes its own."""
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
