import sqlite3
from pathlib import Path

import pytest

from synthloop.errors import UserError
from synthloop.journal import Journal
from synthloop.records import Completion, Request

KEYS = ("a" * 32, "b" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with two replies, of different roles."""
    with Journal(tmp_path / "journal.sqlite", "1/generate") as journal:
        for key, role in zip(KEYS, ("teacher", "judge"), strict=True):
            reply = Completion(
                request_id="r", text=f"said {role}", finish_reason="stop", prompt_tokens=3, completion_tokens=2
            )
            journal.put([(key, "m", Request(id="r", role=role), reply)])
    return tmp_path / "journal.sqlite"


def change(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(statement)


def test_replies_and_their_tokens(path: Path) -> None:
    with Journal(path, "x") as journal:
        assert journal.tokens({"teacher"}) == 5
        assert journal.tokens({"teacher", "judge"}) == 10
        assert journal.missing([*KEYS, "c"]) == ["c"]
        assert list(journal.problems()) == []


@pytest.mark.parametrize(
    "change_to",
    [
        "reply = replace(reply, 'said', 'sold')",
        "request = replace(request, 'teacher', 'teecher')",
        "prompt_tokens = 9",
        "model = 'n'",
        "reply = CAST(x'ff' AS TEXT)",
    ],
)
def test_a_changed_row_is_named_and_not_used(path: Path, change_to: str) -> None:
    change(path, f"UPDATE replies SET {change_to} WHERE key = '{KEYS[0]}'")
    with Journal(path, "x") as journal:
        for read in (journal.get, journal.find):
            with pytest.raises(UserError, match=f"journal.sqlite: the reply with the key '{KEYS[0]}' changed"):
                read(KEYS[0])
        with pytest.raises(UserError, match="journal.sqlite"):
            journal.tokens({"judge"})
        assert len(list(journal.problems())) == 1
        assert journal.get(KEYS[1]) is not None


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match="journal.sqlite: not a sound SQLite database"):
        Journal(path, "x")


def test_a_journal_without_digests_is_read_and_goes_on_with_them(path: Path) -> None:
    change(path, "ALTER TABLE replies DROP COLUMN digest")
    change(path, f"UPDATE replies SET reply = '{{}}' WHERE key = '{KEYS[1]}'")
    with Journal(path, "x") as journal:
        found = journal.get(KEYS[0])
        assert found is not None
        with pytest.raises(UserError, match=KEYS[1]):
            journal.get(KEYS[1])
        journal.put([("c" * 32, "m", Request(id="r", role="teacher"), found)])
        assert list(journal.problems()) == []
    change(path, "UPDATE replies SET reply = replace(reply, 'said', 'sold')")
    with Journal(path, "x") as journal:
        assert journal.get(KEYS[0]) is not None, "nothing to compare with"
        assert len(list(journal.problems())) == 1
