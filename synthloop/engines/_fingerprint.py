"""A short name for what a folder of model files holds, the same wherever the folder lies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

# What makes a model answer as it does; model cards, optimizer states and training logs do not.
MODEL_FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.txt", "*.gguf")
# Chosen, not measured: three samples of this size tell two checkpoints apart in milliseconds, whatever their size.
SAMPLE_BYTES = 1 << 20


def folder_fingerprint(folder: Path, patterns: Sequence[str] = MODEL_FILES, *, whole: bool = False) -> str:
    """Hash of the names, sizes and bytes of the files directly in `folder` that match `patterns`.

    Of a file larger than three samples only its start, middle and end are read, unless `whole`.
    """
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        digest.update(path.read_bytes() if whole or size <= 3 * SAMPLE_BYTES else _samples(path, size))
    return digest.hexdigest()[:16]


def _samples(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        parts = []
        for offset in (0, (size - SAMPLE_BYTES) // 2, size - SAMPLE_BYTES):
            file.seek(offset)
            parts.append(file.read(SAMPLE_BYTES))
    return b"".join(parts)
