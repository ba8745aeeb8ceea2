"""reversal: the completion is the real text; the rating and the regenerated answer decide."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.generate import rows
from tests.generate.play import kept, play
from tests.generate.recipes.texts import DOCUMENTS, documents, is_guided, last, rated, shown

INSTRUCTION = "Ann holds 3 pens and finds 4. How many pens has she?"


def test_the_real_completion_is_the_answer() -> None:
    real = rows.example(3)
    outcome, asked = play("reversal", rows.seed(3), [INSTRUCTION, rated(5)], critic="critic")
    (one,) = kept([outcome])
    assert (one.input, one.completion, one.answer, one.gold) == (INSTRUCTION, real.completion, real.answer, True)
    assert one.scores == {"curation": 5.0}
    assert one.lineage["text"] == "real-3"
    assert [request.role for request in asked] == ["teacher", "critic"]
    assert [is_guided(request) for request in asked] == [False, True]
    # Other rows show what is wanted, backwards; the row's own input is what the teacher must not see.
    assert [turn["role"] for turn in asked[0].messages] == ["system", *["user", "assistant"] * 2, "user"]
    assert asked[0].messages[1]["content"] == rows.example(100).completion
    assert asked[0].messages[2]["content"] == rows.example(100).input
    assert last(asked[0]) == real.completion
    assert all(real.input not in shown(request) for request in asked)


def test_a_passage_is_the_answer_word_for_word(tmp_path: Path) -> None:
    outcome, _ = play("reversal", rows.seed(), ["Tell me of them.", rated(5)], documents=documents(tmp_path))
    (one,) = kept([outcome])
    name = one.lineage["text"].partition("#")[0]
    assert (one.completion, one.gold) == (DOCUMENTS[name], True)
    assert one.lineage["source_ids"][-1] == f"{name}#0"
    assert one.completion != rows.example().completion


def test_an_instruction_that_leads_to_the_real_answer_is_kept() -> None:
    outcome, asked = play("reversal", rows.seed(3), [INSTRUCTION, rated(5), "3+4=7\n#### 7"], regenerate=True)
    (one,) = kept([outcome])
    assert (one.completion, one.lineage["regenerated"]) == (rows.example(3).completion, True)
    assert last(asked[2]) == INSTRUCTION
    assert rows.example(3).completion not in shown(asked[2])


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["Ann holds…"], "truncated: the instruction"),
        ([" "], "empty: the instruction"),
        ([INSTRUCTION, rated(4)], "low curation: 4 of 5"),
        ([INSTRUCTION, "five"], "malformed: the curation rating"),
        ([INSTRUCTION, rated(5), "#### 8"], "infidelity: the instruction leads to '8', the text says '7'"),
        ([INSTRUCTION, rated(5), "#### 7…"], "infidelity"),
    ],
)
def test_refusals(replies: list[str], reason: str) -> None:
    outcome, asked = play("reversal", rows.seed(3), replies, regenerate=True)
    assert outcome.reason.startswith(reason)
    assert len(asked) == len(replies)


def test_an_instruction_that_gives_the_text_away_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bees.md").write_text(DOCUMENTS["bees.md"])
    outcome, asked = play("reversal", rows.seed(), [f"Say this: {DOCUMENTS['bees.md']}"], documents=tmp_path)
    assert outcome.reason.startswith("copied: ")
    assert len(asked) == 1


def test_failures_are_no_seeds_as_their_gold_would_become_training_text() -> None:
    from generate.recipes import back_translation, grounded, long_context, rag, reversal

    for module in (back_translation, grounded, long_context, rag, reversal):
        assert module.SEEDS == "non_failures", module.__name__
