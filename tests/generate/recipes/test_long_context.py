"""long_context: related evidence of different documents, and readers that must need all of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from generate.documents import Passage
from generate.recipes.long_context import pick
from tests.generate import rows
from tests.generate.play import kept, play
from tests.generate.recipes.texts import DOCUMENTS, documents, last, reading, shown

DRAFT = json.dumps(
    {
        "facts": ["A hive holds 50000.", "A nest holds 5000."],
        "question": "How many times as many?",
        "answer": "ten times",
    }
)


def replies(together: str | None, without: str | None, first: str | None, second: str | None) -> list[str]:
    return [DRAFT, reading(together), reading(without), reading(first), reading(second)]


def test_a_question_that_takes_two_documents(tmp_path: Path) -> None:
    outcome, asked = play(
        "long_context", rows.seed(), replies("ten times", None, None, "five"),
        documents=documents(tmp_path), critic="critic",
    )  # fmt: skip
    (one,) = kept([outcome])
    assert one.completion == "ten times"
    assert one.input.endswith("\n\nQuestion: How many times as many?")
    assert all(text in one.input for text in DOCUMENTS.values())
    assert one.scores == {"together": 1.0, "alone": 0.0, "without": 0.0}
    assert sorted(one.lineage["passages"]) == ["bees.md#0", "steel.md#0", "wasps.md#0"]
    assert one.lineage["facts"] == ["A hive holds 50000.", "A nest holds 5000."]
    assert [request.role for request in asked] == ["teacher", *["critic"] * 4]

    evidence = [DOCUMENTS[id.partition("#")[0]] for id in one.lineage["evidence"]]
    (distractor,) = set(DOCUMENTS.values()) - set(evidence)
    seen = [{text for text in DOCUMENTS.values() if text in shown(request)} for request in asked]
    assert seen == [set(evidence), set(evidence), {distractor}, {evidence[0]}, {evidence[1]}]
    assert all("ten times" not in shown(request) for request in asked[1:]), "readers are not told the answer"


def test_the_evidence_is_alike_and_of_different_documents() -> None:
    def passage(id: str, text: str) -> Passage:
        return Passage(id, "", text)

    first = passage("bees.md#0", "bees dance for their hive")
    same = passage("bees.md#1", "bees dance for their hive again")
    like = passage("wasps.md#0", "wasps do not dance for their nest")
    other = passage("steel.md#0", "steel is hard")
    assert pick([first, other, same, like], 2, 9) == ([first, like], [same, other])
    assert pick([first, other, same, like], 2, 1) == ([first, like], [same])
    assert pick([first, same], 2, 1) == ([first], [same])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["no JSON"], "malformed: the question"),
        ([DRAFT, "no JSON", reading(None), reading(None), reading(None)], "malformed: the reading"),
        (replies(None, None, None, None), "unsupported: the evidence gives '', not 'ten times'"),
        (replies("five times as few", None, None, None), "unsupported"),
        (replies("ten times", "Ten times.", None, None), "no evidence needed"),
        (replies("ten times", None, None, "ten times"), "one passage is enough"),
        (replies("ten times", None, "ten times more", None), "one passage is enough"),
    ],
)
def test_refusals(tmp_path: Path, given: list[str], reason: str) -> None:
    outcome, asked = play("long_context", rows.seed(), given, documents=documents(tmp_path))
    assert outcome.reason.startswith(reason)
    assert len(asked) == len(given)


def test_one_document_is_too_few(tmp_path: Path) -> None:
    (tmp_path / "bees.md").write_text("Bees dance. " * 300)
    outcome, asked = play("long_context", rows.seed(), [], documents=tmp_path)
    assert outcome.reason == "too few documents: 1 for evidence, 2 distractors"
    assert asked == []


def test_a_long_input_has_as_many_passages_as_asked_for(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.md").write_text(f"Box {number} holds {number * 7} nails. " + "Nails are in boxes. " * 40)
    outcome, asked = play(
        "long_context", rows.seed(), replies("ten times", None, None, None), documents=tmp_path, num_distractors=16
    )
    (one,) = kept([outcome])
    assert len(one.lineage["passages"]) == len(set(one.lineage["passages"])) == 18
    assert "Passage 18 (" in one.input
    assert len(last(asked[2])) > len(last(asked[1]))
