"""Data sets of the Hugging Face hub, and folders that look like one, as the rows that were written.

JSON lines and CSV are read here: `datasets` turns 02116 into 2116 (pandas' types), "007" into 7 where another row has a
number (its Json columns), and the label None into no value. Other formats have types of their own, which it keeps.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from synthloop.errors import UserError
from synthloop.jsonl import OtherFormat, parse_json, read_jsonl, read_text, require_storable

Rows = Iterator[tuple[str, dict[str, Any]]]

_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_OPEN = ("name", "version", "data_dir", "data_files", "description", "sep", "delimiter")
"""Settings of a builder under which its files are still read here."""


def open_splits(dataset: str, subset: str | None, revision: str | None) -> dict[str, Callable[[], Rows]]:
    """Split -> its ("where", row) pairs, for a hub id or a folder. A folder that `save_to_disk` wrote is one too.

    Raises:
        OSError, ValueError, TypeError, ImportError, datasets.exceptions.DatasetsError: it cannot be loaded; raised
            while rows are read, too.
    """
    import datasets

    folder = Path(dataset)
    if (folder / "dataset_dict.json").is_file():
        # `load_dataset` would take the files that `map` and `filter` left in there for further rows.
        return _loaded(dataset, dict(datasets.load_from_disk(dataset)))
    if (folder / "state.json").is_file():
        return _loaded(dataset, {"train": datasets.load_from_disk(dataset)})
    builder = datasets.load_dataset_builder(dataset, subset, revision=revision)
    files = _files(builder, is_local=folder.is_dir())
    if files is not None:
        delimiter = getattr(builder.config, "sep", None)
        return {split: _reading(paths, delimiter) for split, paths in files.items()}
    # A row with the columns id, source, model, system_prompt and messages is taken for an agent's trace.
    as_written = {"parse_agent_traces": False, "on_mixed_types": None}
    settings = {name: value for name, value in as_written.items() if hasattr(builder.config, name)}
    # What it made of a folder before, it takes for the folder as long as the files' times are the same.
    loaded = datasets.load_dataset(dataset, subset, revision=revision, streaming=folder.is_dir(), **settings)
    return _loaded(dataset, dict(loaded))


def _files(builder: Any, is_local: bool) -> dict[str, list[Path]] | None:
    """Split -> files of a builder of JSON or CSV; None where `datasets` is to read them: other formats, compressed
    files, and settings or types that the author of the data set declared."""
    import datasets

    config, found = builder.config, builder.config.data_files
    if not found or builder.info.features is not None or config != _undeclared(config):
        return None
    if any(Path(file).suffix.lower() not in _SUFFIXES for files in found.values() for file in files):
        return None
    local = found if is_local else datasets.DownloadManager().download(found)
    return {str(split): [Path(file) for file in files] for split, files in local.items()}


def _undeclared(config: Any) -> Any:
    """`config` as it is where the data set's card declares nothing."""
    return type(config)(**{name: getattr(config, name) for name in _OPEN if hasattr(config, name)})


def _reading(paths: list[Path], delimiter: str | None) -> Callable[[], Rows]:
    read = _json_rows if delimiter is None else partial(table_rows, delimiter=delimiter)
    return lambda: itertools.chain.from_iterable(map(read, paths))


def _json_rows(path: Path) -> Rows:
    """Rows of JSON lines, or of one JSON array of objects."""
    try:
        for number, row in read_jsonl(path):
            yield f"{path}, line {number}", row
    except OtherFormat as error:
        if error.kind != "a JSON array":
            raise
        yield from _array_rows(path)


def _array_rows(path: Path) -> Rows:
    try:
        rows = parse_json(read_text(path))
        require_storable(rows)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}).") from error
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f"{path}, item {number}: expected an object, found {type(row).__name__}.")
        yield f"{path}, item {number}", row


def table_rows(path: Path, delimiter: str) -> Rows:
    """Rows of a table with a header, every cell as it is written; an empty cell is null, for a table has no other."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter)
    names: list[str] | None = None
    try:
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if names is None:
                names = cells
                if len(set(names)) < len(names):
                    raise UserError(f"{where}: two columns have the same name ({', '.join(names)}). Rename one.")
            elif cells and len(cells) != len(names):
                raise UserError(f"{where}: expected {len(names)} columns ({', '.join(names)}), found {len(cells)}.")
            elif any(cell.strip() for cell in cells):
                yield where, {name: cell or None for name, cell in zip(names, cells, strict=True)}
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error}).") from error


def _loaded(dataset: str, splits: dict[str, Any]) -> dict[str, Callable[[], Rows]]:
    return {split: partial(_typed_rows, f"{dataset}, {split}", rows) for split, rows in splits.items()}


def _typed_rows(where: str, rows: Any) -> Rows:
    """Rows of a `datasets.Dataset` or `IterableDataset`. Class labels are decoded; a column of whole numbers that
    pandas wrote as floats, because a cell is empty, has whole numbers again."""
    import datasets

    features = rows.features or {}
    labels = {name: one for name, one in features.items() if isinstance(one, datasets.ClassLabel)}
    floats = [name for name, one in features.items() if getattr(one, "dtype", None) in ("float32", "float64")]
    whole = [name for name in floats if _is_widened([row[name] for row in rows.select_columns([name])])]
    for number, row in enumerate(rows):
        decoded = {name: labels[name].int2str(row[name]) for name in labels if row[name] is not None}
        integers = {name: _integer(row[name]) for name in whole}
        yield f"{where} row {number}", {**row, **decoded, **integers}


def _is_widened(values: Sequence[float | None]) -> bool:
    """Whether floats are all whole, and some are missing."""
    found = [value for value in values if value is not None and not math.isnan(value)]
    return 0 < len(found) < len(values) and all(value.is_integer() for value in found)


def _integer(value: float | None) -> int | None:
    return None if value is None or math.isnan(value) else int(value)
