"""A rubric: what a judge grades an answer by, in a YAML file that a person edits. Shipped: `prompts/judge_rubric.yaml`.

low: 1
high: 5
instructions: Use the whole scale.
criteria:
  correctness: {question: 'Is the answer right?', weight: 3, min: 4}
  form: {question: 'Is it in good order?'}
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from generate.prompts import BUILT_IN
from synthloop.config import parse
from synthloop.errors import UserError
from synthloop.yaml_file import read_yaml

DEFAULT = BUILT_IN / "judge_rubric.yaml"


class Criterion(BaseModel):
    """One question to the judge; a grade below `min` refuses the answer whatever the others are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    weight: float = Field(default=1, gt=0)
    min: int | None = None


class Rubric(BaseModel):
    """Criteria by their names, each graded from `low` to `high`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: int = 1
    high: int = 5
    instructions: str = ""
    criteria: dict[str, Criterion] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_range(self) -> Rubric:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) is not below high ({self.high})")
        for name, one in self.criteria.items():
            if not name.isidentifier() or name.startswith(("_", "model_")) or name == "reason":
                raise ValueError(f"criteria: {name!r} cannot name a grade; take a word of letters, digits and _")
            if one.min is not None and not self.low <= one.min <= self.high:
                raise ValueError(f"criteria.{name}.min ({one.min}) is outside {self.low} to {self.high}")
        return self

    @cached_property
    def reply(self) -> type[BaseModel]:
        """The JSON a judge replies with: its reason first, so that the grades follow from it."""
        fields: dict[str, Any] = {"reason": (str, ...)}
        fields |= {name: (int, Field(ge=self.low, le=self.high)) for name in self.criteria}
        model: type[BaseModel] = create_model("Grades", **fields)
        return model

    def score(self, grades: dict[str, int]) -> float:
        """The weighted mean of the grades: 0 where all are `low`, 1 where all are `high`."""
        total = sum(one.weight * grades[name] for name, one in self.criteria.items())
        mean = total / sum(one.weight for one in self.criteria.values())
        return (mean - self.low) / (self.high - self.low)

    def short_of(self, grades: dict[str, int]) -> list[str]:
        """The criteria whose grade is below their `min`, as 'correctness 2'."""
        return [
            f"{name} {grades[name]}"
            for name, one in self.criteria.items()
            if one.min is not None and grades[name] < one.min
        ]


def read_rubric(path: Path | None) -> Rubric:
    """The rubric at `path`, the shipped one where that is None. Raises `UserError`."""
    file = path or DEFAULT
    if not file.is_file():
        raise UserError(
            f"rubric: no such file {file}. A relative path starts where you are; the shipped one: {DEFAULT}"
        )
    return parse(Rubric, read_yaml(file, as_text=True), str(file))
