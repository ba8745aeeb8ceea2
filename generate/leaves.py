"""The leaves of a taxonomy in InstructLab's layout: folders, and a `qna.yaml` in each that is a leaf.

    knowledge/science/birds/qna.yaml               domain, seed_examples of context and questions_and_answers
    knowledge/science/birds/chickadee.md           the leaf's documents, beside it
    foundational_skills/reasoning/temporal/qna.yaml      task_description, seed_examples of question and answer
    compositional_skills/grounded/rewriting/qna.yaml     the same, each with a context to work on

Versions 1 to 3 of the format are read (https://github.com/instructlab/schema). A knowledge leaf's text is in the `.md`
files beside its `qna.yaml`, else in the contexts of its seed examples. The git repository that `document` names is not
fetched: copy its files there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from generate.documents import Passage, cut
from synthloop.config import parse
from synthloop.errors import UserError, did_you_mean
from synthloop.jsonl import read_text
from synthloop.yaml_file import read_yaml

Branch = Literal["knowledge", "foundational_skills", "compositional_skills"]


class Shot(NamedTuple):
    """One example that a person wrote for a leaf."""

    question: str
    answer: str
    context: str | None = None


class Leaf(NamedTuple):
    """A leaf. `passages` are what its questions are about (knowledge only); `name` is its folder below the root."""

    name: str
    branch: Branch
    description: str
    shots: tuple[Shot, ...]
    passages: tuple[Passage, ...] = ()

    @property
    def is_grounded(self) -> bool:
        """Whether it is a skill that works on a text which comes with the question."""
        return self.branch != "knowledge" and any(shot.context for shot in self.shots)


class _Yaml(BaseModel):
    # Who wrote a leaf, its licence and the like are in these files too, and none of our business.
    model_config = ConfigDict(extra="ignore", frozen=True, str_strip_whitespace=True)


class _Pair(_Yaml):
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)


class _SeedExample(_Yaml):
    context: str | None = None
    question: str | None = None
    answer: str | None = None
    questions_and_answers: tuple[_Pair, ...] = ()

    @model_validator(mode="after")
    def _has_a_question(self) -> _SeedExample:
        if not self.questions_and_answers and not (self.question and self.answer):
            raise ValueError("expected `question` and `answer`, or `questions_and_answers`")
        return self

    def shots(self) -> Iterator[Shot]:
        for pair in self.questions_and_answers:
            yield Shot(pair.question, pair.answer, self.context)
        if self.question and self.answer:
            yield Shot(self.question, self.answer, self.context)


class _Qna(_Yaml):
    version: int = Field(default=1, ge=1, le=3)
    task_description: str = ""
    domain: str = ""
    document_outline: str = ""
    seed_examples: tuple[_SeedExample, ...] = Field(min_length=1)


@cache
def read_leaves(root: Path, branches: tuple[Branch, ...] = get_args(Branch), max_words: int = 250) -> tuple[Leaf, ...]:
    """The leaves below `root` of these `branches`, in the order of their names.

    Raises:
        UserError: no leaf, one outside the three branches or not as InstructLab has it, knowledge without a text.
    """
    files = sorted(root.rglob("qna.yaml"))
    leaves = tuple(leaf for file in files if (leaf := _leaf(root, file, max_words)).branch in branches)
    if not leaves:
        raise UserError(
            f"taxonomy: {root} holds no qna.yaml below {' or '.join(branches)}. A relative path starts where you are."
        )
    return leaves


def _leaf(root: Path, file: Path, max_words: int) -> Leaf:
    name = file.parent.relative_to(root)
    qna = parse(_Qna, read_yaml(file, as_text=True), str(file))
    branch = next((one for one in get_args(Branch) if name.parts[:1] == (one,)), None)
    if branch is None:
        known = did_you_mean(name.parts[0] if name.parts else "", get_args(Branch))
        raise UserError(f"{file}: not below a branch of the taxonomy. {known}")
    return Leaf(
        name=name.as_posix(),
        branch=branch,
        description=". ".join(filter(None, (qna.task_description, qna.domain, qna.document_outline))),
        shots=tuple(shot for one in qna.seed_examples for shot in one.shots()),
        passages=tuple(_passages(name.as_posix(), file, qna, max_words)) if branch == "knowledge" else (),
    )


def _passages(name: str, file: Path, qna: _Qna, max_words: int) -> Iterator[Passage]:
    documents = [(one.name, read_text(one)) for one in sorted(file.parent.glob("*.md"))]
    texts = documents or [(file.name, one.context) for one in qna.seed_examples if one.context]
    pieces = [(title, piece) for title, text in texts for piece in cut(text, max_words)]
    if not pieces:
        raise UserError(f"{file}: knowledge without a text. Put .md files beside it, or a `context` into its examples.")
    for number, (title, piece) in enumerate(pieces):
        yield Passage(f"{name}/{title}#{number}", qna.domain, piece)
