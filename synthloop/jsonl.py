"""Files that a person wrote: JSON lines and plain text, read in one place that refuses what could not be used later.

A row that is read can be stored, tokenised and written again. What can't (half a surrogate pair, NaN, a number of 5,000
digits, a thousand levels of nesting) is refused here, with file and line, and not by the stage that first meets it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synthloop.errors import UserError
from synthloop.storable import MAX_DEPTH

MAX_LINE_BYTES = 8 * 2**20  # chosen: some two million tokens, more than a model's context holds
_BOM = b"\xef\xbb\xbf"
BYTE_ORDER_MARK = "\ufeff"
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")

MAGIC = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\xff\xff\xff\xff": "an Arrow stream",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"PK\x03\x04": "a zip file (an Excel sheet is one)",
    b"SQLite format 3": "an SQLite database",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
"""How files that are not JSON lines begin."""

_PYTHON = 'Convert it: python -c "import csv, json, sys; [print(json.dumps(row)) for row in {}]" {} > {}'
CONVERSIONS = {
    "a JSON array": _PYTHON.replace("{}", "json.load(open(sys.argv[1], encoding='utf-8-sig'))", 1),
    "CSV": _PYTHON.replace("{}", "csv.DictReader(open(sys.argv[1], newline='', encoding='utf-8-sig'))", 1),
    "TSV": _PYTHON.replace(
        "{}", "csv.DictReader(open(sys.argv[1], newline='', encoding='utf-8-sig'), delimiter='\\t')", 1
    ),
    "a Parquet file": "Convert it: python -c \"import datasets, sys; datasets.load_dataset('parquet', "
    "data_files=sys.argv[1])['train'].to_json(sys.argv[2])\" {} {}",
}
"""What turns a format into JSON lines and changes no value (pandas, and so `datasets`, reads 007 in a CSV as 7)."""


class OtherFormat(UserError):
    """The file is no JSON lines at all; the message names what it is."""

    def __init__(self, path: Path, kind: str) -> None:
        conversion = CONVERSIONS.get(kind, "Unpack or convert it first.").format(path, path.with_suffix(".jsonl"))
        super().__init__(f"{path}: {kind}, not JSON lines. Expected one JSON object a line. {conversion}")
        self.kind = kind


def read_jsonl(path: Path, max_bytes: int | None = MAX_LINE_BYTES) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) for every non-blank line of a JSONL file in UTF-8, with or without a BOM.

    Args:
        max_bytes: the longest line taken; None for files of the run itself.

    Raises:
        OtherFormat: it is another kind of file, which is named.
        UserError: it can't be read, or a line is not an object that can be stored (file and line are named).
    """
    require_file(path, "a JSONL file, one JSON object a line")
    number = read = 0
    with _opened(path) as stream:
        while line := stream.readline(-1 if max_bytes is None else max_bytes + 1):
            number += 1
            line = line.removeprefix(_BOM)  # also inside: files that were joined bring one each
            if not line.strip():
                continue
            try:
                if max_bytes is not None and len(line) > max_bytes:
                    raise ValueError(f"more than {max_bytes / 2**20:.0f} MiB. A row is one example; split it")
                row = parse_object(line)
            except ValueError as error:
                if not read and (kind := other_format(path)) is not None:
                    raise OtherFormat(path, kind) from error
                raise UserError(f"{path}, line {number}: {error}.") from error
            read += 1
            yield number, row


def parse_object(line: bytes) -> dict[str, Any]:
    """The JSON object that `line` is. Raises `ValueError` with a sentence on what is wrong, without its full stop."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start})") from error
    try:
        row = parse_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, found {type(row).__name__}")
    if _SURROGATE_ESCAPE.search(line):  # most are whole pairs: an emoji written in ASCII
        require_storable(row)
    return row


def parse_json(text: str) -> Any:
    """The JSON value `text`. Raises `ValueError`, also for what JSON allows and no file of a run can hold."""
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_number, parse_float=_number, parse_int=_integer
        )
        if text.count("[") + text.count("{") > MAX_DEPTH:
            _require_shallow(value)
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep") from error
    return value


def require_storable(value: Any) -> None:
    """Raises `ValueError` where a string in `value` holds half a surrogate pair, which UTF-8 has no bytes for."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        bad = f"\\u{ord(error.object[error.start]):04x}"
        raise ValueError(f"{bad} is half of a surrogate pair, and no character (an emoji cut in two?)") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {key.removeprefix(BYTE_ORDER_MARK): value for key, value in pairs}
    if len(found) < len(pairs):
        twice = sorted({key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1})
        raise ValueError(f"the key {', '.join(map(repr, twice))} is there twice in one object")
    return found


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no number that can be stored. Put text in quotes, or null for no value")
    return value


def _integer(text: str) -> int:
    if len(text) > 1000:  # Python itself refuses at 4,300 digits
        raise ValueError(f"a number of {len(text)} digits. Put text in quotes")
    return int(text)


def _require_shallow(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            one
            for parent in level
            if isinstance(parent, (dict, list))
            for one in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(one, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"nested more than {MAX_DEPTH} levels deep")


def require_file(path: Path, expected: str) -> None:
    """Raises `UserError` where `path` is no regular file; a pipe would be empty when it is read a second time."""
    if path.is_dir():
        raise UserError(f"{path}: a folder. Expected {expected}.")
    if not path.exists():
        raise UserError(f"{path}: no such file. Expected {expected}.")
    if not path.is_file():
        raise UserError(f"{path}: a pipe or a device, and it is read more than once. Expected {expected}.")


def _opened(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}).") from error


def read_text(path: Path, encoding: str = "utf-8", remedy: str = "Save it as UTF-8.") -> str:
    """The text of a file, without a byte order mark. Raises `UserError` where it is missing or not in `encoding`."""
    require_file(path, "a text file")
    with _opened(path) as stream:
        data = stream.read()
    if data.startswith(_BOM) and codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        raise UserError(f"{path}: begins with the byte order mark of UTF-8, so it is not {encoding}.")
    try:
        return data.decode(encoding).removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: not {encoding} ({error.reason} at byte {error.start}). {remedy}"
        ) from error


def other_format(path: Path) -> str | None:
    """What a file that is no JSON lines seems to be, by its first bytes; None where nothing is known."""
    with _opened(path) as stream:
        head = stream.read(4096)
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    if b"\0" in head:
        return "a binary file"
    lines = head.removeprefix(_BOM).strip().splitlines()
    first = lines[0].strip() if lines else b""
    if first.startswith(b"["):
        return "a JSON array"
    if first == b"{":
        return "one JSON object over several lines"
    return None if first.startswith(b"{") else _table(path, lines)


def _table(path: Path, lines: list[bytes]) -> str | None:
    """CSV or TSV, by the name, or where the first two lines have equally many columns and more than one."""
    for kind, delimiter in (("TSV", "\t"), ("CSV", ",")):
        columns = [
            len(cells) for cells in csv.reader((line.decode("latin-1") for line in lines[:2]), delimiter=delimiter)
        ]
        if path.suffix.lower() == f".{kind.lower()}" or (len(columns) == 2 and columns[0] == columns[1] > 1):
            return kind
    return None
