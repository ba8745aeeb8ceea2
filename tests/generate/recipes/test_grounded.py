"""grounded: request, text, rating; the passage and the conditions in the prompts and in the lineage."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthloop.records import Request
from tests.generate import rows
from tests.generate.play import kept, play
from tests.generate.recipes.texts import DOCUMENTS, documents, is_guided, last, play_many, rated, shown

CONDITIONS = {"audiences": ["sailors"], "styles": ["a sea shanty"]}
REQUEST, TEXT = "Write a sea shanty for sailors on what bees do.", "Oh, the bees of the hive, they dance and arrive."


def test_a_text_for_an_audience_in_a_style_from_a_passage(tmp_path: Path) -> None:
    outcome, asked = play(
        "grounded", rows.seed(), [REQUEST, TEXT, rated(4)], documents=documents(tmp_path), critic="critic", **CONDITIONS
    )
    (one,) = kept([outcome])
    assert (one.input, one.completion, one.gold, one.votes) == (REQUEST, TEXT, False, ())
    assert one.messages == ({"role": "user", "content": REQUEST},)
    assert one.scores == {"quality": 4.0, "copied": 0.0}
    name = one.lineage["passage"].partition("#")[0]
    assert (one.lineage["audience"], one.lineage["style"]) == ("sailors", "a sea shanty")
    assert one.lineage["source_ids"][-1] == f"{name}#0"
    assert one.lineage["roles"] == ["critic", "teacher"]
    assert [request.role for request in asked] == ["teacher", "teacher", "critic"]
    assert [is_guided(request) for request in asked] == [False, False, True]
    assert asked[2].sampling["temperature"] == 0
    for request in asked:
        assert DOCUMENTS[name] in shown(request)
        assert "sailors" in shown(request)
        assert "a sea shanty" in shown(request)
        assert rows.example().input not in shown(request), "with documents, the row is no source"
    assert TEXT in last(asked[2])


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["Write a…"], "truncated: the request"),
        ([""], "empty: the request"),
        ([REQUEST, "Oh, the…"], "truncated: the text"),
        ([REQUEST, TEXT, rated(3)], "low quality: 3 of 5"),
        ([REQUEST, TEXT, "good"], "malformed: the quality rating"),
    ],
)
def test_refusals(tmp_path: Path, replies: list[str], reason: str) -> None:
    outcome, asked = play("grounded", rows.seed(), replies, documents=documents(tmp_path))
    assert outcome.reason.startswith(reason)
    assert len(asked) == len(replies)


def test_a_copy_of_the_passage_is_refused_before_it_is_rated(tmp_path: Path) -> None:
    (tmp_path / "bees.md").write_text(DOCUMENTS["bees.md"])
    outcome, asked = play("grounded", rows.seed(), [REQUEST, DOCUMENTS["bees.md"]], documents=tmp_path)
    assert outcome.reason == "copied: 1.00 of the text stands in the passage"
    assert len(asked) == 2


def test_without_documents_the_row_is_the_source() -> None:
    outcome, asked = play("grounded", rows.seed(), [REQUEST, TEXT, rated(5)])
    assert rows.example().input in last(asked[0])
    assert outcome.lineage["passage"] == "real-0"
    assert rows.seed().response not in "".join(map(shown, asked))


def test_conversations_draw_conditions_of_their_own() -> None:
    def reply(request: Request) -> str:
        return rated(5) if is_guided(request) else TEXT

    samples = kept([outcome for outcome, _ in play_many("grounded", 200, reply)])
    # Of 20 cells drawn evenly 200 times, one is missed once in 1,400 runs.
    assert len({(one.lineage["audience"], one.lineage["style"]) for one in samples}) == 4 * 5
