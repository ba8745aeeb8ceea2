"""The journal: every reply an engine gave, keyed by what was asked. SQLite, one file a run.

After a crash the recipes simply run again and the journal answers what was already asked, so nothing is asked twice.
The key is a hash of (engine, model, revision, adapter, messages or token ids, sampling); the sample index is part of
the sampling through its `seed`, and is kept apart where an engine takes no seed. Each row has a digest of its own,
compared whenever it is read; rows of versions that wrote none are read as they are.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pydantic import ValidationError

from synthloop.errors import UserError
from synthloop.records import Completion, Record, Request

R = TypeVar("R", bound=Record)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    stage TEXT NOT NULL,
    role TEXT NOT NULL,
    model TEXT NOT NULL,
    request TEXT NOT NULL,
    reply TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    digest TEXT
) WITHOUT ROWID
"""
_COLUMNS = "key, stage, role, model, request, reply, prompt_tokens, completion_tokens, digest"


def request_key(identity: dict[str, Any], request: Request) -> str:
    """The journal key of `request` asked of the engine described by `identity` (engine, model, revision, adapter)."""
    content = [identity, request.messages, request.prompt_token_ids, request.sampling, request.sample_index]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _digest(columns: Sequence[Any]) -> str:
    return hashlib.sha256("\n".join(map(str, columns)).encode()).hexdigest()[:16]


class Journal:
    """Replies by key. One writer; commits at every `put`, so a killed process loses only what was still in flight.

    Whatever is asked of it raises `UserError`, naming the file, where that is no sound database or a row changed.
    """

    def __init__(self, path: Path, stage: str) -> None:
        self._path = path
        self._stage = stage
        self._db = sqlite3.connect(path)
        # A byte that is not UTF-8 is to be found by the digest, which names the row.
        self._db.text_factory = lambda text: text.decode(errors="replace")
        # WAL with synchronous=NORMAL survives a killed process; a power cut may lose the last commits, never corrupt.
        with self._sound():
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            # SQLite reads what is missing at the end of a cut file as an empty part of a tree: no error, no reply.
            self._refuse_unsound()
            self._db.execute(_SCHEMA)
            if "digest" not in {column[1] for column in self._db.execute("PRAGMA table_info(replies)")}:
                self._db.execute("ALTER TABLE replies ADD COLUMN digest TEXT")

    def get(self, key: str) -> Completion | None:
        row = self._row(key)
        return None if row is None else self._parse(Completion, row[5], key)

    def put(self, entries: Iterable[tuple[str, str, Request, Completion]]) -> None:
        """Store (key, model, request, reply) entries in one transaction. Failed replies must not be stored.

        Raises:
            sqlite3.IntegrityError: a key is there already, so the caller asked an engine for what it could have read.
        """
        rows = [
            (
                key,
                self._stage,
                request.role,
                model,
                request.model_dump_json(),
                reply.model_dump_json(),
                reply.prompt_tokens,
                reply.completion_tokens,
            )
            for key, model, request, reply in entries
        ]
        with self._sound(), self._db:
            self._db.executemany(
                f"INSERT INTO replies ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(*row, _digest(row)) for row in rows],
            )

    def find(self, key: str) -> tuple[Request, Completion] | None:
        """The request and reply of `key`, for `synthloop trace`."""
        row = self._row(key)
        return None if row is None else (self._parse(Request, row[4], key), self._parse(Completion, row[5], key))

    def tokens(self, roles: Collection[str]) -> int:
        """Tokens, of prompts and completions, of all replies of `roles` so far."""
        total = 0
        for row in self._rows():
            self._refuse_changed(row)
            total += row[6] + row[7] if row[2] in roles else 0
        return total

    def problems(self) -> Iterator[str]:
        """What changed since it was written, a sentence each."""
        for row in self._rows():
            if row[8] not in (None, _digest(row[:8])):
                yield _changed(self._path, row[0])

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that have no reply."""
        known = {row[0] for row in self._rows()}
        return [key for key in keys if key not in known]

    def close(self) -> None:
        self._db.close()

    def _row(self, key: str) -> Sequence[Any] | None:
        with self._sound():
            row: Sequence[Any] | None = self._db.execute(
                f"SELECT {_COLUMNS} FROM replies WHERE key = ?", (key,)
            ).fetchone()
        if row is not None:
            self._refuse_changed(row)
        return row

    def _parse(self, record: type[R], text: str, key: str) -> R:
        try:
            return record.model_validate_json(text)
        except ValidationError as error:  # a row without a digest
            raise UserError(_changed(self._path, key)) from error

    def _rows(self) -> Iterator[Any]:
        with self._sound():
            yield from self._db.execute(f"SELECT {_COLUMNS} FROM replies")

    def _refuse_changed(self, row: Sequence[Any]) -> None:
        if row[8] not in (None, _digest(row[:8])):
            raise UserError(_changed(self._path, row[0]))

    def _refuse_unsound(self) -> None:
        found = [one for (one,) in self._db.execute("PRAGMA integrity_check(3)") if one != "ok"]
        if found:
            raise UserError(_unsound(self._path, "; ".join(found)))

    @contextmanager
    def _sound(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:  # a full disk, a lock, a key that is there already
                raise
            raise UserError(_unsound(self._path, str(error))) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unsound(path: Path, what: str) -> str:
    return (
        f"{path}: not a sound SQLite database ({what}). Put it back from a copy, or delete it: what the rounds to come "
        "need is then asked anew."
    )


def _changed(path: Path, key: str) -> str:
    return (
        f"{path}: the reply with the key '{key}' changed since it was written. Put the file back from a copy, or have "
        f"that reply asked for anew: sqlite3 {path} \"DELETE FROM replies WHERE key = '{key}'\""
    )
