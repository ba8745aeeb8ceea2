"""The journal: every reply an engine gave, keyed by what was asked. SQLite, one file a run.

After a crash the recipes simply run again and the journal answers what was already asked, so nothing is asked twice.
The key is a hash of (engine, model, revision, adapter, messages or token ids, sampling); the sample index is part of
the sampling through its `seed`, and is kept apart where an engine takes no seed.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from synthloop.records import Completion, Request

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    stage TEXT NOT NULL,
    role TEXT NOT NULL,
    model TEXT NOT NULL,
    request TEXT NOT NULL,
    reply TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL
) WITHOUT ROWID
"""


def request_key(identity: dict[str, Any], request: Request) -> str:
    """The journal key of `request` asked of the engine described by `identity` (engine, model, revision, adapter)."""
    content = [identity, request.messages, request.prompt_token_ids, request.sampling, request.sample_index]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


class Journal:
    """Replies by key. One writer; commits at every `put`, so a killed process loses only what was still in flight."""

    def __init__(self, path: Path, stage: str) -> None:
        self._db = sqlite3.connect(path)
        # WAL with synchronous=NORMAL survives a killed process; a power cut may lose the last commits, never corrupt.
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(_SCHEMA)
        self._stage = stage

    def get(self, key: str) -> Completion | None:
        row = self._db.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else Completion.model_validate_json(row[0])

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
        with self._db:
            self._db.executemany("INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def find(self, key: str) -> tuple[Request, Completion] | None:
        """The request and reply of `key`, for `synthloop trace`."""
        row = self._db.execute("SELECT request, reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else (Request.model_validate_json(row[0]), Completion.model_validate_json(row[1]))

    def tokens(self, role: str) -> tuple[int, int]:
        """(prompt, completion) tokens of all replies of `role` so far."""
        query = (
            "SELECT COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0) FROM replies WHERE role = ?"
        )
        prompt, completion = self._db.execute(query, (role,)).fetchone()
        return int(prompt), int(completion)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
