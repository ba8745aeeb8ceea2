"""Documents: what is read of a folder or a file, and what is wrong with one that can't be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from generate.documents import read_passages
from synthloop.errors import UserError


def test_a_folder_is_read_whole_whatever_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("One.\n\nTwo.", encoding="utf-8-sig")
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "folder.md" / "b.txt").write_text("Three.")
    os.mkfifo(tmp_path / "pipe.txt")
    found = read_passages(tmp_path, 1)
    assert [(one.id, one.text) for one in found] == [
        ("a.md#0", "One."),
        ("a.md#1", "Two."),
        ("folder.md/b.txt#0", "Three."),
    ]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("d.jsonl", b'{"text": 1}\n', "d.jsonl, line 1: expected a string `text`"),
        ("d.jsonl", b'{"text": "\\ud800"}\n', "d.jsonl, line 1: .*half of a surrogate pair"),
        ("d.jsonl", b"text\nhello\n", "d.jsonl, line 1: not valid JSON"),
        ("d.jsonl", b"", "holds no text"),
        ("d.txt", b"hello", "expected a folder or a .jsonl file, found neither at .*d.txt"),
        ("folder/d.txt", b"one\ncaf\xe9", "d.txt, line 2: not utf-8 .*Save it as UTF-8"),
        ("folder/d.pdf", b"%PDF", "holds no text"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    with pytest.raises(UserError, match=told):
        read_passages(path.parent if "/" in name else path, 100)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found nothing at .*gone"):
        read_passages(tmp_path / "gone", 100)
