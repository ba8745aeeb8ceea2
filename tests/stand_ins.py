"""The quickstart models where a test needs longer prompts than they were trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTEXT = 8192


def long_context_copies(folder: Path) -> tuple[Path, Path]:
    """(student, teacher): copies that take prompts of `CONTEXT` tokens; nothing in a Llama depends on the limit."""
    for name in ("teacher", "student"):
        copy = shutil.copytree(ROOT / "quickstart" / name, folder / name)
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, "max_position_embeddings": CONTEXT}))
    return folder / "student", folder / "teacher"
