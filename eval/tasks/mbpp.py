"""Short Python programs: MBPP (Austin et al., 2021, arXiv:2108.07732), 464 train and 500 test problems.

    task: {name: mbpp, path: data/mbpp, runner: generate.sandbox.run_python}          a folder with mbpp.jsonl
    task: {name: mbpp, dataset: google-research-datasets/mbpp, runner: ...}           or the hub

One published row, and what becomes of it (its other two tests stay hidden):

    {"task_id": 602, "text": "Write a python function to find the first repeated character in a given string.",
     "code": "def first_repeated_char(str1): ...",
     "test_list": ["assert first_repeated_char(\\"abcabc\\") == \\"a\\"", ...], "test_setup_code": ""}

    input       the text, and the first test, which says what the function is called
    completion  the code, as a Python block
    meta.tests  all of the tests, each with the row's `test_setup_code`

The 90 published validation problems are part of 'train', as they are too few to be probe and gate.

A reply is right when its code passes all tests. `runner` is the function that runs it, by dotted path: model-written
code must be confined, which is not this stage's to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ImportString, model_validator

from eval.tasks._sources import SourceConfig, hub_rows, local_rows
from synthloop.conversations import field, text_field
from synthloop.errors import UserError
from synthloop.records import Example, Score
from synthloop.task import make_example
from synthloop.unit_tests import code_in, fenced, run_tests, statement

METRIC = "pass_at_1"

SPLITS = {"test": range(11, 511), "train": range(511, 975)}
"""By `task_id`, as published; 1 to 10 are for few-shot prompts."""

HUB_SPLITS = {"test": ("test",), "train": ("validation", "train")}


class Config(SourceConfig):
    """`num_shown` tests stand in the problem (one in arXiv:2304.05128; all three in arXiv:2108.07732)."""

    prompt: str = "{{ input }}\n\nReply with one Python code block that fulfils the assertion."
    num_shown: int = 1
    runner: ImportString[Any]

    @model_validator(mode="after")
    def _has_source(self) -> Config:
        if self.path is None and self.dataset is None:
            raise ValueError("set `path` to a folder with mbpp.jsonl, or `dataset: google-research-datasets/mbpp`")
        if not callable(self.runner):
            raise ValueError("`runner` should name a function, such as generate.sandbox.run_python")
        return self


def load(cfg: Config, split: str) -> Iterator[Example]:
    """The rows of 'train' or 'test'. The first is run, so that a runner that can't says so before a model is loaded.

    Raises:
        UserError: rows are not MBPP's, the runner refuses, or it does not pass the first row's own code.
    """
    for number, (where, row) in enumerate(_rows(cfg, split)):
        example = _example(cfg, row, where)
        if number == 0 and not (found := score(cfg, example, example.completion)).correct:
            raise UserError(f"{where}: the row's own code does not pass its tests under `runner`: {found.reason}")
        yield example


def _rows(cfg: Config, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if split not in SPLITS:
        return
    if cfg.path is None:
        for name in HUB_SPLITS[split]:
            yield from hub_rows(cfg, name)
        return
    for where, row in local_rows(cfg.path / "mbpp.jsonl"):
        if field(row, "task_id", where) in SPLITS[split]:
            yield where, row


def _example(cfg: Config, row: dict[str, Any], where: str) -> Example:
    tests, setup = field(row, "test_list", where), str(row.get("test_setup_code") or "")
    if not isinstance(tests, list) or not tests:
        raise UserError(f"{where}: 'test_list' should be a list of tests, found {tests!r}.")
    code = text_field(row, "code", where).replace("\r\n", "\n").strip()
    return make_example(
        cfg,
        input=statement(text_field(row, "text", where), tests[: cfg.num_shown]),
        completion=fenced(code),
        answer=code,
        meta={"tests": [f"{setup}\n{test}".strip() for test in tests]},
    )


def score(cfg: Config, example: Example, text: str) -> Score:
    """1 where the code in `text` passes all of the example's tests; a written problem has none here, and scores 0."""
    code, tests = code_in(text), example.meta.get("tests")
    if code is None or not tests:
        return Score(value=0.0, correct=False, parsed=code, reason="no tests" if code else "no code")
    verdict = run_tests(code, tests, cfg.runner)
    return Score(value=float(verdict.ok), correct=verdict.ok, parsed=code, reason=verdict.feedback or None)
