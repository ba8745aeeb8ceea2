"""What a user's file can hold: each of a table of rows and files is rightly taken, or refused by file and line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloop.conversations import text_field
from synthloop.errors import UserError
from synthloop.jsonl import MAX_DEPTH, MAX_LINE_BYTES, read_jsonl, read_text
from synthloop.task import open_task
from train.rows import read_training_rows

GOOD = b'{"input": "2+2", "output": "4"}\n'


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


def with_input(text: str) -> bytes:
    """A row whose `input` is the JSON text `text`."""
    return f'{{"input": {text}, "output": "4"}}\n'.encode()


SECOND_LINE: dict[str, tuple[bytes, str]] = {
    "half a pair": (with_input(r'"a\ud83d"'), r"\ud83d is half of a surrogate pair"),
    "other half": (with_input(r'"\ude00a"'), r"\ude00 is half"),
    "halves in the wrong order": (with_input(r'"\ude00\ud83d"'), r"\ude00 is half"),
    "half a pair in a key": (b'{"input": "a", "output": "4", "\\ud800": 1}\n', r"\ud800 is half"),
    "half a pair in a slice": (b'{"input": "a", "output": "4", "slice": "\\ud800"}\n', r"\ud800 is half"),
    "half a pair deep in what is not read": (b'{"input": "a", "output": "4", "m": [{"x": "\\uDFFF"}]}\n', r"\udfff is"),
    "half a pair in a turn": (b'{"messages": [{"role": "user", "content": "\\ud800"}], "output": "4"}\n', r"\ud800 is"),
    "NaN": (with_input("NaN"), "NaN is no number"),
    "Infinity": (with_input("Infinity"), "Infinity is no number"),
    "-Infinity": (with_input("-Infinity"), "-Infinity is no number"),
    "1e999": (with_input("1e999"), "1e999 is no number"),
    "NaN as an answer": (b'{"input": "a", "output": "4", "answer": NaN}\n', "NaN is no number"),
    "5,000 digits": (with_input("9" * 5000), "a number of 5000 digits"),
    "1,001 digits": (with_input("9" * 1001), "a number of 1001 digits"),
    "5,000 digits, not read": (
        b'{"input": "a", "output": "4", "n": ' + b"1" * 5000 + b"}\n",
        "a number of 5000 digits",
    ),
    "lists too deep": (with_input(nested(MAX_DEPTH + 1)), "nested more than 100 levels deep"),
    "lists 900 deep": (with_input(nested(900)), "nested more than 100 levels deep"),
    "lists 100,000 deep": (with_input(nested(100_000)), "nested more than 100 levels deep"),
    "objects 100,000 deep": (with_input(nested(100_000, '{"a":', "1}")), "line 2: n"),
    "a key twice": (b'{"input": "a", "input": "b", "output": "4"}\n', "the key 'input' is there twice"),
    "a key twice, deeper": (b'{"input": "a", "output": "4", "m": {"k": 1, "k": 1}}\n', "the key 'k' is there twice"),
    "NUL in a string": (b'{"input": "a\0b", "output": "4"}\n', "not valid JSON (Invalid control character"),
    "NUL bytes": (b"\0\0\0\n", "not valid JSON"),
    "not UTF-8": (b'{"input": "\xe9", "output": "4"}\n', "not UTF-8 (invalid continuation byte at byte 11)"),
    "a surrogate in CESU-8": (b'{"input": "\xed\xa0\x80", "output": "4"}\n', "not UTF-8"),
    "cut in two": (b'{"input": "a", "outp', "not valid JSON (Unterminated string"),
    "single quotes": (b"{'input': 'a', 'output': '4'}\n", "not valid JSON"),
    "a trailing comma": (b'{"input": "a", "output": "4",}\n', "not valid JSON"),
    "two objects": (GOOD.strip() + GOOD, "not valid JSON (Extra data at column 32)"),
    "a comma after it": (GOOD.strip() + b",\n", "not valid JSON (Extra data"),
    "a comment": (b"# a comment\n", "not valid JSON"),
    "a list": (b"[1]\n", "expected a JSON object, found list"),
    "a number": (b"4\n", "expected a JSON object, found int"),
    "a string": (b'"a"\n', "expected a JSON object, found str"),
    "null": (b"null\n", "expected a JSON object, found NoneType"),
    "an empty object": (b"{}\n", "none of the fields messages, instruction, input"),
    "input true": (with_input("true"), "the field 'input' should be text, found True"),
    "input an object": (with_input('{"a": 1}'), "'input' should hold turns of `role`"),
    "input a list of strings": (with_input('["a"]'), "'input' should hold turns of `role`"),
    "no output": (b'{"input": "a"}\n', "none of the fields output"),
    "Alpaca with a system text": (b'{"instruction": "a", "system": "s", "output": "4"}\n', "'system' is not read"),
    "Alpaca with a history": (
        b'{"instruction": "a", "history": [["b", "c"]], "output": "4"}\n',
        "'history' is not read",
    ),
    "a context": (b'{"question": "a", "context": "c", "answer": "4"}\n', "'context' is not read"),
    "instruction beside messages": (
        b'{"messages": [{"role": "user", "content": "a"}], "instruction": "i", "output": "4"}\n',
        "'instruction' is not read",
    ),
    "tools": (b'{"input": "a", "output": "4", "tools": [{}]}\n', "'tools' is not read"),
    "two answers": (
        b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "3"}], "output": "4"}\n',
        "and 'output' holds another",
    ),
    "a turn without content": (b'{"messages": [{"role": "user"}], "output": "4"}\n', "should hold turns of `role`"),
    "a turn with tool calls": (
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "4", "tool_calls": [1]}]}\n',
        "should hold turns of `role`",
    ),
    "an unknown role": (b'{"messages": [{"role": "critic", "content": "a"}], "output": "4"}\n', "should hold turns of"),
    "content in parts": (
        b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "output": "4"}\n',
        "should hold turns of `role`",
    ),
    "only the assistant's": (b'{"messages": [{"role": "assistant", "content": "4"}]}\n', "expected a conversation"),
    "a line of 8 MiB": (with_input(f'"{"a" * MAX_LINE_BYTES}"'), "more than 8 MiB"),
}
"""The second line of a file -> what is said after "line 2: ", by both readers."""

FILES: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "no rows"),
    "blank lines": (b"\n  \n\r\n", "no rows"),
    "a BOM alone": (b"\xef\xbb\xbf\n", "no rows"),
    "Parquet": (b"PAR1\x15\x04\x15", "a Parquet file, not JSON lines"),
    "Arrow": (b"ARROW1\0\0", "an Arrow file, not JSON lines"),
    "gzip": (b"\x1f\x8b\x08\0", "a gzip file, not JSON lines"),
    "zip": (b"PK\x03\x04\x14\0", "a zip file (an Excel sheet is one), not JSON lines"),
    "UTF-16": ('{"input": "a"}\n'.encode("utf-16"), "UTF-16 text, not JSON lines"),
    "UTF-16 without a BOM": ('{"input": "a"}\n'.encode("utf-16-le"), "a binary file, not JSON lines"),
    "NUL bytes": (b"\0" * 5000, "a binary file, not JSON lines"),
    "a JSON array": (b'[\n{"input": "a", "output": "4"}\n]\n', "a JSON array, not JSON lines"),
    "a JSON array in one line": (b'[{"input": "a", "output": "4"}]', "a JSON array, not JSON lines"),
    "a JSON object over lines": (b'{\n"input": "a",\n"output": "4"}\n', "one JSON object over several lines, not"),
    "CSV": (b'input,output\n"a, b",4\n', "CSV, not JSON lines"),
    "TSV": (b"input\toutput\na\t4\n", "TSV, not JSON lines"),
    "prose": (b"Once upon a time\nthere was a file.\n", "line 1: not valid JSON"),
    "HTML": (b"<html>\n<body>\n", "line 1: not valid JSON"),
    "a cut first line": (b'{"input": "a", "out', "line 1: not valid JSON"),
    "a huge first line": (b'{"' + b" " * (MAX_LINE_BYTES + 1), "line 1: more than 8 MiB"),
}
"""A whole file -> what is said of it, by both readers."""

TAKEN: dict[str, tuple[bytes, str]] = {
    "a BOM at the start": (b"\xef\xbb\xbf" + GOOD, "2+2"),
    "files that were joined": (b"\xef\xbb\xbf" + GOOD + b"\xef\xbb\xbf" + GOOD, "2+2"),
    "a BOM in a name and in a text": (b'{"\\ufeffinput": "\\ufeff2+2", "output": "4"}\n', "2+2"),
    "Windows line ends": (GOOD.replace(b"\n", b"\r\n"), "2+2"),
    "no line end": (GOOD.strip(), "2+2"),
    "blank lines between": (b"\n" + GOOD + b"  \n", "2+2"),
    "an emoji in ASCII": (with_input(r'"\ud83d\ude00"'), "\U0001f600"),
    "a backslash and ud83d": (with_input(r'"\\ud83d"'), r"\ud83d"),
    "an escaped NUL": (with_input(r'"a\u0000b"'), "a\0b"),
    "a record separator": (with_input(r'"A\u001esystem\u001e"'), "A\x1esystem\x1e"),
    "a line separator": (with_input('"a\u2028b"'), "a\u2028b"),
    "a number": (with_input("7"), "7"),
    "a number of 1,000 digits": (with_input("9" * 1000), "9" * 1000),
    "Alpaca": (b'{"instruction": "Add.", "input": "2 and 2", "output": "4"}\n', "Add.\n\n2 and 2"),
    "Alpaca without input": (b'{"instruction": "Add 2 and 2.", "input": "", "output": "4"}\n', "Add 2 and 2."),
    "null fields": (b'{"input": "a", "output": "4", "context": null, "tools": [], "system": ""}\n', "a"),
    "turns with null fields": (
        b'{"messages": [{"role": "user", "content": "a", "name": null}, {"role": "assistant", "content": "4"}]}\n',
        "a",
    ),
    "question and answer": (b'{"question": "a", "answer": "4"}\n', "a"),
    "turns as prompt and completion": (
        b'{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "4"}]}\n',
        "a",
    ),
    "1,000 keys": (b'{"input": "a", "output": "4", ' + b", ".join(b'"k%d": 1' % n for n in range(1000)) + b"}\n", "a"),
    "many brackets, shallow": (b'{"input": "a", "output": "4", "m": ' + b"[" + b"[]," * 200 + b"[]]}\n", "a"),
}
"""A file that is fine -> the problem of its first row, by both readers."""


def read_as_task(path: Path) -> list[Any]:
    return list(open_task("jsonl", {"train": str(path), "scorer": "exact"}).load("train"))


READERS = {"task": read_as_task, "train --data": read_training_rows}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", SECOND_LINE)
def test_a_bad_row_is_refused_by_file_and_line(tmp_path: Path, name: str, reader: str) -> None:
    line, told = SECOND_LINE[name]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD + line)
    with pytest.raises(UserError) as error:
        READERS[reader](path)
    assert str(error.value).startswith(f"{path}, line 2: ")
    assert told in str(error.value)
    assert len(str(error.value)) < 800


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_named_for_what_it_is(tmp_path: Path, name: str, reader: str) -> None:
    data, told = FILES[name]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    with pytest.raises(UserError) as error:
        READERS[reader](path)
    assert str(error.value).startswith(str(path))
    assert told in str(error.value)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", TAKEN)
def test_an_odd_but_good_row_is_taken_as_it_is(tmp_path: Path, name: str, reader: str) -> None:
    data, problem = TAKEN[name]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    row = READERS[reader](path)[0]
    assert row.messages[-1]["content"] == problem
    assert row.completion == "4"
    assert json.loads(row.model_dump_json())["completion"] == "4"


@pytest.mark.parametrize(
    "data", [b'[{"input": "007", "output": "4"}]', b"input,output\n007,4\n", b"input\toutput\n007\t4\n", "parquet"]
)
def test_the_conversion_that_is_told_works_and_keeps_values(tmp_path: Path, data: bytes | str) -> None:
    path = tmp_path / "rows.data"
    if isinstance(data, str):
        parquet.write_table(pyarrow.table({"input": ["007"], "output": ["4"]}), path)
    else:
        path.write_bytes(data)
    with pytest.raises(UserError, match=r"Convert it: (.*rows\.jsonl)") as error:
        read_as_task(path)
    command = re.search(r"Convert it: (.*rows\.jsonl)", str(error.value))
    assert command is not None
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    told = command[1].replace("python ", f"{sys.executable} ", 1)
    subprocess.run(told, shell=True, check=True, env=environment, capture_output=True)
    (example,) = read_as_task(tmp_path / "rows.jsonl")
    assert (example.input, example.completion) == ("007", "4")


def test_the_tables_cover_what_was_tried() -> None:
    assert len(SECOND_LINE) + len(FILES) + len(TAKEN) >= 68


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_regular_file_is_refused_unread(tmp_path: Path, reader: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, told in [
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "a pipe or a device"),
        (Path("/dev/zero"), "a pipe or a device"),
        (tmp_path / "loop", "no such file"),
        (tmp_path / "gone.jsonl", "no such file"),
    ]:
        with pytest.raises(UserError, match=told):
            READERS[reader](path)


def test_a_run_reads_its_own_rows_of_any_length(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(with_input(f'"{"a" * MAX_LINE_BYTES}"'))
    ((number, row),) = read_jsonl(path, max_bytes=None)
    assert (number, len(row["input"])) == (1, MAX_LINE_BYTES)


def test_text_is_read_without_its_bom_and_named_where_it_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert read_text(path) == "hello"
    path.write_bytes(b"one\ntw\xf6")
    with pytest.raises(UserError, match=r"note.txt, line 2: not utf-8 \(.*\). Save it as UTF-8."):
        read_text(path)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip("\ufeff \r\n")))
def test_a_byte_order_mark_is_not_text(text: str) -> None:
    """Whatever the text, in front of a file or of a field."""
    line = json.dumps({"input": f"\ufeff{text}", "output": "4"}).encode()
    with tempfile.TemporaryDirectory() as folder:
        for number, mark in enumerate((b"", b"\xef\xbb\xbf")):
            path = Path(folder) / f"{number}.txt"
            path.write_bytes(mark + text.encode())
            assert read_text(path) == text.removeprefix("\ufeff" if not mark else "")
            path.write_bytes(mark + line)
            ((_, row),) = read_jsonl(path)
            assert text_field(row, "input", "") == text
