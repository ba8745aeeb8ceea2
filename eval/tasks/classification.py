"""One label for one text, from the usual file formats.

    trec      {path: data/trec, format: label_text, train: TREC.train, test: TREC.test, encoding: latin-1,
               label_separator: ":"}
    sst2      {path: data/sst2, format: label_text, train: stsa.binary.train, validation: stsa.binary.dev,
               test: stsa.binary.test, label_map: {"0": negative, "1": positive}}
    sms_spam  {path: data/sms_spam, format: tsv, train: sms.tsv, label: 0, text: 1}
    clinc150  {path: data/clinc150, format: json, train: data_full.json#train, validation: data_full.json#val,
               test: [data_full.json#test, data_full.json#oos_test], text: 0, label: 1}
    hub       {dataset: CogComp/trec, revision: refs/convert/parquet, label: coarse_label}

One line of TREC, `NUM:dist How far is it from Denver to Aspen ?`, becomes

    input  How far is it from Denver to Aspen ?      completion, answer and slice  NUM

The prompt is a template over `input` and `labels`.

Limits: see `eval.labels.Labels` for how a label is found in a reply.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from eval.labels import refuse_alike
from eval.scoring import choice
from eval.tasks._sources import SplitConfig, hub_rows, local_rows
from synthloop.conversations import Unread, field, text_field
from synthloop.errors import UserError, did_you_mean
from synthloop.jsonl import parse_json, read_text, require_file, require_storable
from synthloop.records import Example, Score
from synthloop.task import make_example

METRIC = "accuracy"

log = logging.getLogger("synthloop.task")


class Config(SplitConfig):
    """Where the text and the label stand, and which labels there are.

    Args:
        format: 'jsonl', 'csv' and 'tsv' (a header unless `text` and `label` are column numbers from 0; tsv has no
            quoting), 'json' (a list of rows, or `file#key` for a list inside an object), 'label_text' (the label, a
            space, the text; also fastText's `__label__` before the label). A list of one label is that label; rows
            without any are left out and counted.
        label_separator: what is before it counts: ':' makes NUM of NUM:dist.
        label_map: published label -> the word the student writes; others stay as they are.
        labels: the possible labels; read from all splits where not given.
    """

    prompt: str = "Classify the text. Answer with one of: {{ labels | join(', ') }}.\n\nText: {{ input }}"
    format: Literal["jsonl", "csv", "tsv", "json", "label_text"] = "jsonl"
    encoding: str = "utf-8"
    text: str | int = "text"
    label: str | int = "label"
    label_separator: str | None = None
    label_map: dict[str, str] = Field(default={})
    labels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _nothing_unread(self) -> Config:
        """A setting that the source or the format does not read is a mistake."""
        kind = "dataset" if self.dataset is not None else self.format
        unread = {"dataset": {"format", "encoding"}, "jsonl": {"encoding"}, "label_text": {"text", "label"}}
        for name in sorted(unread.get(kind, set()) & self.model_fields_set):
            raise ValueError(f"`{name}` is not read where the rows come from a {kind} source; remove it")
        return self

    @cached_property
    def known_labels(self) -> tuple[str, ...]:
        """The given labels, else those of all splits, sorted. Raises `UserError` where two look the same."""
        splits = () if self.labels else ("train", "validation", "test")
        counts = Counter(self.labels)
        counts.update(label for split in splits for _, _, label in _pairs(self, split, Unread(), []))
        refuse_alike(counts, "Join them: set task.label_map={joined}.")
        labels = self.labels or tuple(sorted(counts))
        for label in labels:
            if not choice(labels)(label, label).correct:
                raise UserError(
                    f"The label {label!r} can never be right: as a reply it names none of {list(labels)!r:.200}, or "
                    "several. Rename it with task.label_map."
                )
        return labels

    def variables(self) -> dict[str, Any]:
        return {"labels": self.known_labels}


def load(cfg: Config, split: str) -> Iterator[Example]:
    """The rows of the split, in file order.

    Raises:
        UserError: a file is missing, empty or does not parse, or a label is not among `labels` (file and line named).
    """
    known, unread = set(cfg.known_labels), Unread()
    unlabelled: list[str] = []
    for where, text, label in _pairs(cfg, split, unread, unlabelled):
        if label not in known:
            raise UserError(f"{where}: the label '{label}' is not in task.labels. {did_you_mean(label, known)}")
        yield make_example(cfg, input=text, completion=label, answer=label, slice=label)
    if unlabelled:
        log.warning("task: %d rows of '%s' have no label and are left out: %s.", len(unlabelled), split, unlabelled[0])
    if str(unread):
        log.warning("task: fields of '%s' that are not read: %s.", split, unread)


def score(cfg: Config, example: Example, text: str) -> Score:
    """1 where the reply names the example's label and no other."""
    return choice(cfg.known_labels)(example.answer, text)


def _pairs(cfg: Config, split: str, unread: Unread, unlabelled: list[str]) -> Iterator[tuple[str, str, str]]:
    """(where, text, label) of every row of a split; other fields are counted in `unread`, rows in `unlabelled`."""
    for name in cfg.names(split):
        found = False
        for where, row in hub_rows(cfg, name) if cfg.dataset is not None else _file_rows(cfg, name):
            found = True
            unread.add(row, {str(cfg.text), str(cfg.label)}, where, remedy=None)
            label, text = _label(row, str(cfg.label), where), text_field(row, str(cfg.text), where)
            if label is None:
                unlabelled.append(where)
                continue
            if cfg.label_separator is not None:
                label = label.split(cfg.label_separator, 1)[0]
            yield where, text.strip(), cfg.label_map.get(label, label)
        if not found and cfg.dataset is None:
            raise UserError(f"{cfg.file(name)}: the file has no rows.")


def _label(row: dict[str, Any], name: str, where: str) -> str | None:
    """The label of a row, which may be a list of one; None where the list is empty. Raises `UserError`."""
    labels = field(row, name, where)
    if not isinstance(labels, list):
        return text_field(row, name, where).strip()
    if len(labels) > 1:
        raise UserError(f"{where}: {len(labels)} labels ({labels!r:.80}) for one text. Keep one, or leave the row out.")
    return text_field({name: labels[0]}, name, where).strip() if labels else None


def _file_rows(cfg: Config, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file, line N", row) of a local file; the columns of a file without names are '0', '1', ..."""
    if cfg.format == "jsonl":
        return local_rows(cfg.file(name))
    if cfg.format == "json":
        return _json_rows(cfg, name)
    path = cfg.file(name)
    return _label_text_rows(cfg, path) if cfg.format == "label_text" else _table_rows(cfg, path)


def _text(cfg: Config, path: Path) -> str:
    try:
        return read_text(path, cfg.encoding, "Set task.encoding, for example latin-1.")
    except LookupError as error:
        raise UserError(f"task.encoding: {error}.") from error


def _label_text_rows(cfg: Config, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    text = _text(cfg, path)
    is_fasttext = re.search(rf"^\s*{_FASTTEXT}", text, re.MULTILINE) is not None
    for number, line in enumerate(io.StringIO(text), 1):
        if line.strip():
            found = _fasttext_line(line) if is_fasttext else line.strip().partition(" ")[::2]
            yield f"{path}, line {number}", dict(zip((str(cfg.label), str(cfg.text)), found, strict=True))


_FASTTEXT = "__label__"


def _fasttext_line(line: str) -> tuple[list[str], str]:
    """The labels that a line of fastText begins with, and its text."""
    labels, rest = [], line.strip()
    while rest.startswith(_FASTTEXT):
        label, _, rest = rest.partition(" ")
        labels.append(label.removeprefix(_FASTTEXT))
        rest = rest.lstrip()
    return labels, rest


def _table_rows(cfg: Config, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    dialect: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if cfg.format == "tsv" else {}
    reader = csv.reader(io.StringIO(_text(cfg, path), newline=""), **dialect)
    header: Sequence[str] | None = None
    for cells in _cells(reader, path):
        where = f"{path}, line {reader.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if header is None and not (isinstance(cfg.text, int) and isinstance(cfg.label, int)):
            header = cells
            continue
        names = header or [str(index) for index in range(len(cells))]
        if len(cells) != len(names):
            raise UserError(f"{where}: expected {len(names)} columns ({', '.join(names)}), found {len(cells)}.")
        yield where, dict(zip(names, cells, strict=True))


def _cells(reader: Any, path: Path) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error}).") from error


def _json_rows(cfg: Config, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    file, _, key = name.partition("#")
    path = cfg.file(file)
    require_file(path, f"a JSON file. task.path is {cfg.path}")
    try:
        data = parse_json(_text(cfg, path))
        require_storable(data)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from error
    if key:
        if not isinstance(data, dict) or key not in data:
            known = data if isinstance(data, dict) else ()
            raise UserError(f"{path}: no key '{key}' in the object. {did_you_mean(key, known)}")
        data = data[key]
    if not isinstance(data, list):
        raise UserError(f"{path}: expected a list of rows, found {type(data).__name__}. Name a key: {file}#train.")
    for number, row in enumerate(data):
        where = f"{path}, {key or 'list'} item {number}"
        if not isinstance(row, (dict, list)):
            raise UserError(f"{where}: expected an object or a list, found {type(row).__name__}.")
        yield where, row if isinstance(row, dict) else {str(index): cell for index, cell in enumerate(row)}
