"""What a run's `.wandb` files hold, read from their bytes: wandb has no reader for Python any more."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def history(run: Path) -> list[list[dict[str, Any]]]:
    """The logged rows of each W&B session of `run`, in order."""
    return [_rows(file) for file in sorted(run.glob("wandb/offline-run-*/*.wandb"))]


def _rows(file: Path) -> list[dict[str, Any]]:
    from wandb.proto import wandb_internal_pb2

    rows = []
    for data in _records(file):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def _records(file: Path) -> Iterator[bytes]:
    """The whole records: a 7-byte head, then LevelDB's log format (blocks of 32 KiB, records in parts)."""
    data, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (room := 32768 - at % 32768) < 7:
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part = data[at + 7 : at + 7 + length]
        if len(part) < length:
            return
        parts += part
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""
