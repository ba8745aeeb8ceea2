"""What `check` prints of long lists."""

from __future__ import annotations

from synthloop.findings import MAX_NAMED, first


def test_a_cut_is_said() -> None:
    lines = [f"warning {n}" for n in range(MAX_NAMED + 3)]
    assert first(lines[:MAX_NAMED]) == lines[:MAX_NAMED]
    assert first(lines) == [*lines[:MAX_NAMED], "and 3 more"]
