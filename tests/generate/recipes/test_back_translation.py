"""back_translation: the route, the round trip and its score; the target is the real text."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from generate.chrf import chrf
from generate.recipes.back_translation import Config
from tests.generate import rows
from tests.generate.play import kept, play
from tests.generate.recipes.texts import DOCUMENTS, last, shown

REAL = "Steel is iron with up to two percent carbon."
GERMAN = "Stahl ist Eisen mit bis zu zwei Prozent Kohlenstoff."
FRENCH = "L'acier est du fer contenant au plus deux pour cent de carbone."
BACK = "Steel is iron with at most two percent carbon."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steel.md").write_text(REAL)
    return tmp_path


def test_a_pair_whose_target_is_real(folder: Path) -> None:
    outcome, asked = play(
        "back_translation", rows.seed(), [GERMAN, BACK], documents=folder, route=["English", "German"]
    )
    (one,) = kept([outcome])
    assert one.input == f"Translate from German to English:\n\n{GERMAN}"
    assert (one.completion, one.gold) == (REAL, True)
    assert one.scores == {"chrf": chrf(BACK, REAL)}
    assert 0.5 < one.scores["chrf"] < 1
    assert one.lineage["translations"] == [GERMAN, BACK]
    assert one.lineage["text"] == "steel.md#0"
    assert [last(request).splitlines()[0] for request in asked] == [
        "Translate this text from English to German:",
        "Translate this text from German to English:",
    ]
    assert REAL in shown(asked[0])
    assert REAL not in shown(asked[1]), "the way back must not see the real text"


def test_a_route_through_a_pivot_and_back(folder: Path) -> None:
    outcome, asked = play(
        "back_translation", rows.seed(), [GERMAN, FRENCH, GERMAN, REAL],
        documents=folder, route=["English", "German", "French"],
    )  # fmt: skip
    (one,) = kept([outcome])
    assert one.input == f"Translate from French to English:\n\n{FRENCH}"
    assert one.completion == REAL
    assert one.scores == {"chrf": 1.0}
    given = [GERMAN if n else REAL for n in range(2)] + [FRENCH, GERMAN]
    assert [last(request).endswith(text) for request, text in zip(asked, given, strict=True)] == [True] * 4
    assert one.lineage["route"] == ["English", "German", "French"]


def test_without_documents_the_rows_completion_is_the_target() -> None:
    replies = ["Vier und fünf sind neun.", rows.example(5).completion]
    outcome, _ = play("back_translation", rows.seed(5), replies, route=["English", "German"])
    (one,) = kept([outcome])
    assert (one.completion, one.answer) == (rows.example(5).completion, "9")


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["Stahl…"], "truncated: the translation hit max_tokens, English to German"),
        ([GERMAN, ""], "empty: the translation has no text, German to English"),
        ([REAL], "untranslated: chrF 1.00"),
        ([GERMAN, DOCUMENTS["bees.md"]], "lost: the round trip has chrF 0."),
    ],
)
def test_refusals(folder: Path, replies: list[str], reason: str) -> None:
    outcome, asked = play("back_translation", rows.seed(), replies, documents=folder, route=["English", "German"])
    assert outcome.reason.startswith(reason)
    assert len(asked) == len(replies)


@pytest.mark.parametrize("route", [[], ["English"], ["English", "German", "English"]])
def test_a_route_goes_somewhere(route: list[str]) -> None:
    with pytest.raises(ValidationError):
        Config(route=tuple(route))
