"""Documents: what is read of a folder or a file, and what is wrong with one that can't be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generate.documents import cut, read_passages
from synthloop.characters import count_words
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


@pytest.mark.parametrize(
    ("text", "max_words", "pieces"),
    [
        ("雨が降る。傘を持つ。", 4, ["雨が降る。", "傘を持つ。"]),
        ("他说：“走吧。”我们走了。", 6, ["他说：“走吧。”", "我们走了。"]),
        ("雨が降る。傘を持つ。", 9, ["雨が降る。傘を持つ。"]),
        ("雨が降る", 3, ["雨が降", "る"]),
        ("ฝนตก ลมแรง", 5, ["ฝนตก", "ลมแรง"]),
        ("पानी गिरा। हवा चली।", 2, ["पानी गिरा।", "हवा चली।"]),
        ("It rains. We stay in, as 3.5 mm fell.", 5, ["It rains. We stay in,", "as 3.5 mm fell."]),
    ],
)
def test_cut(text: str, max_words: int, pieces: list[str]) -> None:
    assert cut(text, max_words) == pieces


@given(st.text("ab 雨る。ฝี.\n「」", max_size=60), st.integers(1, 9))
def test_no_piece_is_too_long_and_nothing_is_dropped(text: str, max_words: int) -> None:
    pieces = cut(text, max_words)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(count_words(piece) <= max_words or len(piece.split()) == 1 for piece in pieces)
