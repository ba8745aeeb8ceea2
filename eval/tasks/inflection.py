"""Morphological inflection: a lemma and its tags in, the inflected form out (CoNLL-SIGMORPHON 2017, subtask 1).

    task: {name: inflection, path: ../shared/data/inflection}

One real row (slice 'V;PST'):

    input       stodge V;PST
    completion  stodged

The files are UTF-8, one row a line: lemma, form and tags, separated by tabs. Scored by exact match of the whole reply,
case included, as in the shared task (https://aclanthology.org/K17-2001). The slices are the tags: five, in even shares.

Limits: a lemma with two accepted forms ('dreamed', 'dreamt') has one of them as the reference; the other scores 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from eval.scoring import exact
from synthloop.errors import UserError
from synthloop.jsonl import read_text
from synthloop.plugins import Untracked
from synthloop.records import Example, Score
from synthloop.task import TaskConfig, make_example

METRIC = "exact_match"


class Config(TaskConfig):
    """Where the published files are. `path` is the folder that holds them."""

    path: Annotated[Path, Untracked]
    train_file: str = "english-train-medium"
    validation_file: str = "english-dev"
    test_file: str = "english-uncovered-test"


def load(cfg: Config, split: str) -> Iterator[Example]:
    """The rows of the split's file, in its order.

    Raises:
        UserError: the file is missing, or a line is not three fields (file and line number are named).
    """
    files = {"train": cfg.train_file, "validation": cfg.validation_file, "test": cfg.test_file}
    for lemma, form, tags in _read(cfg.path / files[split]):
        yield make_example(cfg, input=f"{lemma} {tags}", completion=form, answer=form, slice=tags)


def score(cfg: Config, example: Example, text: str) -> Score:
    """1 where the reply is the form. Limits: see the module."""
    return exact(example.answer, text)


def _read(path: Path) -> Iterator[tuple[str, str, str]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file. Set task.path to the folder with the CoNLL 2017 files.")
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), 1):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 3 or not all(fields):
            raise UserError(f"{path}, line {number}: expected lemma, form and tags separated by tabs, found {line!r}.")
        yield fields[0], fields[1], fields[2]
