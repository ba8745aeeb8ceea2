"""Where the rows of a task come from: local files, or a data set of the Hugging Face hub. Shared by the tasks here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import model_validator

from eval.tasks._datasets import open_splits
from synthloop.errors import UserError
from synthloop.jsonl import OtherFormat, read_jsonl
from synthloop.plugins import Untracked
from synthloop.task import TaskConfig

Names = str | tuple[str, ...]
"""One file or hub split, or several to read one after the other."""


class SourceConfig(TaskConfig):
    """A local `path`, or a hub `dataset` with its `subset` and `revision`.

    Where both are given `path` is read, so that `task.path=...` on the command line does without the hub.
    """

    WITHOUT_HUB: ClassVar = "Without the hub, set task.path to a folder with the published files."

    path: Annotated[Path | None, Untracked] = None
    dataset: str | None = None
    subset: str | None = None
    revision: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _path_wins(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("path") is not None:
            return {name: value for name, value in values.items() if name not in ("dataset", "subset", "revision")}
        return values

    @model_validator(mode="after")
    def _one_source(self) -> SourceConfig:
        if self.dataset is None and (self.subset or self.revision):
            raise ValueError("subset and revision belong to a hub `dataset`, and none is given")
        return self


class SplitConfig(SourceConfig):
    """`train`, `validation` and `test` are files (below `path` where that is given), or splits of a hub `dataset`."""

    WITHOUT_HUB: ClassVar = "Without the hub, name local files: task.dataset=null task.train=FILE task.test=FILE."

    train: Annotated[Names | None, Untracked] = None
    validation: Annotated[Names | None, Untracked] = None
    test: Annotated[Names | None, Untracked] = None

    @model_validator(mode="after")
    def _has_train(self) -> SplitConfig:
        if self.dataset is None and self.train is None:
            raise ValueError("name the file of the real training rows in `train`, or a hub `dataset`")
        return self

    def names(self, split: str) -> tuple[str, ...]:
        """The files or hub splits of `split`. Those of a hub data set are named as published unless said otherwise."""
        names: Names | None = {"train": self.train, "validation": self.validation, "test": self.test}.get(split)
        if names is None:
            return (split,) if self.dataset is not None and self.train is None else ()
        return (names,) if isinstance(names, str) else names

    def file(self, name: str) -> Path:
        return Path(name) if self.path is None else self.path / name


def local_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file, line N", object) for each line of a JSONL file.

    Raises:
        UserError: it is missing, empty, another kind of file, or a line is not a JSON object that can be stored.
    """
    empty = True
    try:
        for number, row in read_jsonl(path):
            empty = False
            yield f"{path}, line {number}", row
    except OtherFormat as error:
        raise UserError(f"{error}{_READ_TODAY.get(error.kind, '')}") from error
    if empty:
        raise UserError(f"{path}: no rows in it. Expected one JSON object a line.")


_AS_FOLDER = " Or set task.dataset to a folder with train.{0} and test.{0}, without task.train."
_AS_LABELS = " For one label a text, also task `classification` with format: {}."
_READ_TODAY = {
    "a Parquet file": _AS_FOLDER.format("parquet"),
    "CSV": _AS_FOLDER.format("csv") + _AS_LABELS.format("csv"),
    "TSV": _AS_FOLDER.format("tsv") + _AS_LABELS.format("tsv"),
    "a JSON array": _AS_FOLDER.format("json") + _AS_LABELS.format("json"),
}
"""What reads a format that is not JSON lines as it is."""


def hub_rows(cfg: SourceConfig, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file, line N" or "dataset, split row N", row) of a data set of the hub or a folder; nothing where it has no
    such split. Text is as it was written, as by `local_rows`; class labels are decoded.

    Raises:
        UserError: the data set cannot be loaded, or a line of its files cannot be read.
    """
    import datasets

    assert cfg.dataset is not None
    try:
        splits = open_splits(cfg.dataset, cfg.subset, cfg.revision)
        yield from splits[split]() if split in splits else ()
    except (OSError, ValueError, TypeError, ImportError, datasets.exceptions.DatasetsError) as error:
        # What went wrong while rows were made stands in the cause; the error itself says only that something did.
        cause = error.__cause__ if isinstance(error, datasets.exceptions.DatasetGenerationError) else None
        first = next(iter(str(cause or error).splitlines()), type(error).__name__).rstrip(".")
        raise UserError(f"The data set '{cfg.dataset}' cannot be loaded: {first}. {cfg.WITHOUT_HUB}") from error
