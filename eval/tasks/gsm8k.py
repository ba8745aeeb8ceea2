"""Grade-school maths: GSM8K (Cobbe et al. 2021, arXiv:2110.14168), 7,473 train and 1,319 test problems.

    task: {name: gsm8k, path: data/gsm8k}              a folder with train.jsonl and test.jsonl, as published
    task: {name: gsm8k, dataset: openai/gsm8k}         or the hub

One published row, and what becomes of it (slice '2-steps'):

    {"question": "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. ...",
     "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\\n... <<48+24=72>>72 clips ...\\n#### 72"}

    input       the question
    completion  the answer without the calculator marks <<...>>
    answer      72

The slice is the number of lines of the published solution ('8-steps' and more are '8+-steps').
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import model_validator

from eval.scoring import numeric, only_number
from eval.tasks._sources import SourceConfig, hub_rows, local_rows
from synthloop.conversations import text_field
from synthloop.errors import UserError
from synthloop.records import Example, Score
from synthloop.task import make_example

METRIC = "exact_match"

_CALCULATOR = re.compile(r"<<[^<>]*>>")


class Config(SourceConfig):
    """`calculator_marks: true` keeps the marks <<48/2=24>> in what the student learns to write."""

    prompt: str = "{{ input }}\nThink step by step and end with the line: #### <answer>"
    calculator_marks: bool = False

    @model_validator(mode="before")
    @classmethod
    def _hub_subset(cls, values: Any) -> Any:
        # The hub's copy has two subsets, 'main' and 'socratic'; the published files are 'main'.
        if isinstance(values, dict) and values.get("dataset") and not values.get("path"):
            return {"subset": "main", **values}
        return values

    @model_validator(mode="after")
    def _has_source(self) -> Config:
        if self.path is None and self.dataset is None:
            raise ValueError("set `path` to a folder with train.jsonl and test.jsonl, or `dataset: openai/gsm8k`")
        return self


def load(cfg: Config, split: str) -> Iterator[Example]:
    """The published 'train' or 'test'; there is no 'validation'."""
    if split not in ("train", "test"):
        return
    for where, row in _rows(cfg, split):
        question, solution = text_field(row, "question", where), text_field(row, "answer", where)
        _, mark, final = solution.rpartition("####")
        answer = only_number(final)
        if not mark or answer is None:
            raise UserError(f"{where}: the answer should end with '#### <number>', found {solution[-40:]!r}.")
        completion = solution if cfg.calculator_marks else _CALCULATOR.sub("", solution)
        yield make_example(cfg, input=question, completion=completion, answer=answer, slice=_slice(solution))


def _rows(cfg: Config, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if cfg.path is None:
        return hub_rows(cfg, split)
    file = cfg.path / f"{split}.jsonl"
    return iter(()) if split == "test" and not file.exists() else local_rows(file)


def _slice(solution: str) -> str:
    steps = sum(bool(line.strip()) for line in solution.splitlines()[:-1])
    return f"{steps}-steps" if steps < 8 else "8+-steps"


def score(cfg: Config, example: Example, text: str) -> Score:
    """1 where the number after the last `####` (else the last number) is the answer."""
    return numeric(example.answer, text)
