"""Published data sets that some tests read; they are not part of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / ".." / "shared" / "data"


def real_data(name: str) -> Path:
    """The folder of a data set; the test is skipped, with the reason, where it is absent."""
    folder = (ROOT / name).resolve()
    if not folder.is_dir():
        pytest.skip(f"needs ../shared/data/{name}, which is not there")
    return folder
