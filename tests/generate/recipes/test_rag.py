"""rag: answers by their adherence, refusals by a critic that finds no answer either."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.generate import rows
from tests.generate.play import kept, play
from tests.generate.recipes.texts import DOCUMENTS, claims, documents, last, play_many, reading, shown

ANSWERED = json.dumps({"question": "How many bees does a hive hold?", "answer": "A hive holds 50000 bees."})
MISSING = json.dumps({"missing": "When bees first danced.", "question": "When did bees first dance?"})


def test_an_answer_that_holds_to_the_passages(tmp_path: Path) -> None:
    outcome, asked = play(
        "rag", rows.seed(), [ANSWERED, claims(True, True, True, False)],
        documents=documents(tmp_path), critic="critic", unanswerable_share=0, min_adherence=0.75,
    )  # fmt: skip
    (one,) = kept([outcome])
    assert one.completion == "A hive holds 50000 bees."
    assert one.input.endswith("\n\nQuestion: How many bees does a hive hold?")
    assert all(text in one.input for text in DOCUMENTS.values()), "evidence and distractors"
    assert (one.scores, one.lineage["answerable"]) == ({"adherence": 0.75}, True)
    assert sorted(one.lineage["passages"]) == ["bees.md#0", "steel.md#0", "wasps.md#0"]
    assert one.lineage["evidence"] in one.lineage["passages"]
    assert [request.role for request in asked] == ["teacher", "critic"]
    evidence = one.lineage["evidence"].partition("#")[0]
    assert [text in shown(asked[0]) for text in DOCUMENTS.values()] == [name == evidence for name in DOCUMENTS]
    assert all(text in last(asked[1]) for text in DOCUMENTS.values()), "it must hold among what the student sees"


def test_an_unanswerable_question_is_answered_by_the_refusal(tmp_path: Path) -> None:
    outcome, asked = play(
        "rag", rows.seed(), [MISSING, reading(None)],
        documents=documents(tmp_path), critic="critic", unanswerable_share=1, refusal="I cannot tell.",
    )  # fmt: skip
    (one,) = kept([outcome])
    assert (one.completion, one.scores, one.lineage["answerable"]) == ("I cannot tell.", {}, False)
    assert one.input.endswith("\n\nQuestion: When did bees first dance?")
    assert "When bees first danced" not in one.input
    assert [request.role for request in asked] == ["teacher", "critic"]
    assert "When bees first danced" not in shown(asked[1]), "the reader is not told that something is missing"


@pytest.mark.parametrize(
    ("share", "replies", "reason"),
    [
        (0, ["no JSON"], "malformed: the question"),
        (0, ['{"question": "Who?", "answer": " "}'], "malformed: the question"),
        (0, [ANSWERED, claims(True, False)], "unsupported: 0.50 of the claims"),
        (0, [ANSWERED, "no JSON"], "malformed: the list of claims"),
        (1, ["no JSON"], "malformed: the question"),
        (1, [MISSING, reading("1920")], "answerable: the critic finds '1920'"),
        (1, [MISSING, "no JSON"], "malformed: the reading"),
    ],
)
def test_refusals(tmp_path: Path, share: float, replies: list[str], reason: str) -> None:
    outcome, asked = play("rag", rows.seed(), replies, documents=documents(tmp_path), unanswerable_share=share)
    assert outcome.reason.startswith(reason)
    assert len(asked) == len(replies)


def test_the_stated_share_is_unanswerable() -> None:
    played = play_many("rag", 1000, lambda request: "no JSON", unanswerable_share=0.3)
    fields = [asked[0].sampling["structured_outputs"]["json"]["properties"] for _, asked in played]
    # Binomial(1000, 0.3) has a standard deviation of 14.5: this is 4 of them.
    assert sum("missing" in one for one in fields) == pytest.approx(300, abs=58)
