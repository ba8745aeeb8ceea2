"""What a critic's replies mean, and the measures beside them."""

from __future__ import annotations

import pytest

from generate.context import Reply
from generate.documents import Passage
from generate.gates import adherence, copied, flaw, over, overlap, rating
from synthloop.records import Completion
from tests.generate.recipes.texts import claims, rated


def reply(text: str) -> Reply:
    finish = "length" if text.endswith("…") else "stop"
    return Reply(
        Completion(request_id="x", text=text, finish_reason=finish, prompt_tokens=1, completion_tokens=1)  # type: ignore[arg-type]
    )


def test_a_rating_passes_at_the_minimum() -> None:
    assert rating(reply(rated(4)), "quality", 4) == (4, None)
    assert rating(reply(rated(3)), "quality", 4) == (3, "low quality: 3 of 5, because")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "malformed: the quality rating has no text"),
        ("4", "malformed: the quality rating does not fit its schema"),
        ('{"reason": "fine", "score": 6}', "malformed: the quality rating does not fit its schema (score: "),
        ('{"reason": "fi…', "truncated: the quality rating was cut off (finish_reason: length)"),
    ],
)
def test_a_rating_that_is_none_does_not_pass(text: str, why: str) -> None:
    assert (rating(reply(text), "quality", 1).refusal or "").startswith(why)


def test_adherence_is_the_share_of_supported_claims() -> None:
    assert adherence(reply(claims(True, True)), 1.0) == (1.0, None)
    assert adherence(reply(claims(True, True, True, False)), 0.75) == (0.75, None)
    share, refusal = adherence(reply(claims(True, False)), 0.75)
    assert share == 0.5
    assert refusal == "unsupported: 0.50 of the claims hold, not 'claim 1'"
    assert (adherence(reply('{"claims": []}'), 0.0).refusal or "").startswith("malformed")


def test_a_text_that_is_cut_off_or_empty_is_of_no_use() -> None:
    assert flaw(reply("fine"), "text") is None
    assert flaw(reply("not fi…"), "text") == "truncated: the text hit max_tokens"
    assert flaw(reply(" \n"), "text") == "empty: the text has no text"


@pytest.mark.parametrize(
    ("found", "wanted", "f1"),
    [
        ("The Eiffel Tower", "the eiffel tower.", 1.0),
        ("in Paris, France", "Paris", 0.5),
        ("Rome", "Paris", 0.0),
        ("", "Paris", 0.0),
        ("no no no", "no", 0.5),
    ],
)
def test_overlap_is_the_f1_of_shared_words(found: str, wanted: str, f1: float) -> None:
    assert overlap(found, wanted) == pytest.approx(f1)


def test_copied_is_the_share_of_eight_word_runs() -> None:
    source = "one two three four five six seven eight nine ten"
    assert copied(source, f"zero {source} eleven") == 1.0
    assert copied("one two three four five six seven eight other words", source) == pytest.approx(1 / 3)
    assert copied("one two three four", source) == 0.0


def test_the_students_input_numbers_the_passages() -> None:
    passages = [Passage("a#0", "Bees", "Bees dance."), Passage("b#0", "", "Steel is hard.")]
    assert over(passages, "Who?") == "Passage 1 (Bees):\nBees dance.\n\nPassage 2:\nSteel is hard.\n\nQuestion: Who?"
