"""Documents: the texts that recipes ground their samples in.

    documents: data/manuals            a folder: every .txt and .md file in it, whole
    documents: data/articles.jsonl     or JSONL rows {"text": "...", "title": "..."}
    (not set)                          the real train rows themselves: problem and answer

A document is cut at paragraphs into passages of at most `max_words` words; a longer paragraph is cut at sentences, a
longer sentence at words. Nothing is dropped. Of scripts without spaces between words, each letter counts as a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from generate.asking import Asker
from synthloop import problems
from synthloop.characters import count_words, spaceless_letter
from synthloop.errors import UserError
from synthloop.jsonl import BYTE_ORDER_MARK, read_jsonl, read_text
from synthloop.records import Seed

SUFFIXES = (".txt", ".md")
_ENDS, _CLOSING = "。！？｡．។။", "」』）”’"
_SENTENCE = (
    rf"(?<=[.!?।॥؟۔።։])\s+|(?<=[{_ENDS}])(?![{_ENDS}{_CLOSING}])\s*|(?<=[{_ENDS}][{_CLOSING}])(?![{_CLOSING}])\s*"
)


@cache
def _boundaries() -> tuple[tuple[str, str], ...]:
    """Paragraphs, sentences, words and, of scripts without spaces, letters: where a text is cut, and what joins it."""
    return (
        (r"\n\s*\n", "\n\n"),
        (_SENTENCE, " "),
        (r"\s+|(?<=[，、；：])", " "),
        (f"(?={spaceless_letter()})", ""),
    )


class Passage(NamedTuple):
    """A piece of a document. `id` names the document and the piece: 'manuals/pump.md#3'."""

    id: str
    title: str
    text: str


class DocumentsConfig(BaseModel):
    """Where the texts are, and how long a passage of one may be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    documents: Path | None = None
    max_words: int = Field(default=250, gt=0)


def draw(cfg: DocumentsConfig, seed: Seed, asker: Asker, count: int = 1) -> list[Passage]:
    """`count` different passages for this conversation, drawn by its own generator; fewer where there are fewer.

    Without `documents`, the passages are the seed's real example and its demonstrations.

    Raises:
        UserError: no such file or folder, a row without text, or no text at all.
    """
    if cfg.documents is None:
        rows = [seed.example, *seed.demonstrations][:count]
        return [
            Passage(one.id, "", f"{problems.shown(one, asker.task.config.system)}\n\n{one.completion}".strip())
            for one in rows
        ]
    passages = read_passages(cfg.documents, cfg.max_words)
    return asker.rng("documents").sample(passages, min(count, len(passages)))


@cache
def read_passages(path: Path, max_words: int) -> tuple[Passage, ...]:
    """All passages below `path`, files in the order of their names. Raises `UserError`."""
    passages = tuple(
        Passage(f"{name}#{number}", title, text)
        for name, title, body in _documents(path)
        for number, text in enumerate(cut(body, max_words))
    )
    if not passages:
        raise UserError(
            f"documents: {path} holds no text. Expected {' or '.join(SUFFIXES)} files, or rows with `text`."
        )
    return passages


def _documents(path: Path) -> Iterator[tuple[str, str, str]]:
    """(name, title, text) of each document."""
    if path.is_dir():
        for file in sorted(one for one in path.rglob("*") if one.suffix in SUFFIXES and one.is_file()):
            yield str(file.relative_to(path)), file.stem, read_text(file)
    elif path.suffix == ".jsonl":
        for number, row in read_jsonl(path):
            if not isinstance(row.get("text"), str):
                raise UserError(f"{path}, line {number}: expected a string `text`, found the keys {sorted(row)}.")
            yield f"{path.name}:{number}", str(row.get("title", "")), row["text"].removeprefix(BYTE_ORDER_MARK)
    else:
        raise UserError(
            f"documents: expected a folder or a .jsonl file, found {'neither' if path.exists() else 'nothing'} at "
            f"{path}. A relative path starts where you are."
        )


def cut(text: str, max_words: int) -> list[str]:
    """`text` in pieces of at most `max_words` words, cut where it hurts least."""
    pieces: list[str] = []
    length = 0
    for separator, part in _parts(text, max_words, _boundaries()):
        added = count_words(part)
        if pieces and length + added <= max_words:
            pieces[-1] += separator + part
            length += added
        else:
            pieces.append(part)
            length = added
    return pieces


def _parts(text: str, max_words: int, boundaries: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(what joins it to the one before, part): parts that fit, split at the coarsest of `boundaries` that does it."""
    (boundary, separator), *finer = boundaries
    joint = separator
    for position, part in enumerate(re.split(f"({boundary})", text.strip())):
        if position % 2:
            joint = separator if part else ""  # what was written side by side stays so
        elif part and (count_words(part) <= max_words or not finer):
            yield joint, part
        elif part:
            first, *rest = _parts(part, max_words, finer)
            yield joint, first[1]
            yield from rest
