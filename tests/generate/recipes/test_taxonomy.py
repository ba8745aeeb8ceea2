"""taxonomy: what is asked for the three kinds of leaf, and the three gates."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from synthloop.records import Request
from tests.generate import rows
from tests.generate.play import kept, play
from tests.generate.recipes.texts import claims, last, play_many, rated, shown
from tests.real_data import real_data

SHIPPED = Path("configs/taxonomy")
QUESTION = json.dumps({"question": "How long is a new starter fed?"})
EXERCISE = json.dumps({"context": "Vehicles shall be stationary.", "question": "Say it simply."})


def test_knowledge_is_asked_of_a_passage_and_answered_without_it() -> None:
    outcome, asked = play(
        "taxonomy", rows.seed(), [QUESTION, rated(4), "One to two weeks.", rated(5), claims(True)],
        taxonomy=SHIPPED, branches=["knowledge"], critic="critic",
    )  # fmt: skip
    (one,) = kept([outcome])
    assert (one.input, one.completion) == ("How long is a new starter fed?", "One to two weeks.")
    assert one.scores == {"question": 4.0, "adherence": 1.0, "relevance": 5.0}
    assert one.lineage["leaf"] == "knowledge/food/sourdough"
    assert one.lineage["branch"] == "knowledge"
    assert len(one.lineage["shots"]) == 3
    (source,) = [id for id in one.lineage["source_ids"] if "sourdough.md#" in id]
    assert source.startswith("knowledge/food/sourdough/")
    assert [request.role for request in asked] == ["teacher", "critic", "teacher", "critic", "critic"]
    assert "<passage>" in last(asked[0])
    assert all(question in last(asked[0]) for question in one.lineage["shots"])
    assert last(asked[2]) == "How long is a new starter fed?", "as the student will be asked"
    assert "nothing else" in asked[2].messages[0]["content"]
    assert rows.example().input not in "".join(map(shown, asked))


def test_a_grounded_skill_comes_with_a_text_to_work_on(tmp_path: Path) -> None:
    name = "compositional_skills/grounded/writing/plain_language"
    shutil.copytree(SHIPPED / name, tmp_path / name)
    outcome, asked = play(
        "taxonomy", rows.seed(), [EXERCISE, rated(5), "Vehicles must not move.", rated(5), claims(True)],
        taxonomy=tmp_path,
    )  # fmt: skip
    (one,) = kept([outcome])
    assert one.input == "Vehicles shall be stationary.\n\nSay it simply."
    assert one.completion == "Vehicles must not move."
    assert (one.lineage["leaf"], one.lineage["branch"]) == (name, "compositional_skills")
    assert set(one.scores) == {"question", "adherence", "relevance"}
    assert "Text: Applicants shall furnish" in last(asked[0])
    assert last(asked[2]) == one.input
    assert all(turn["content"] for turn in asked[2].messages)


def test_a_skill_without_a_text_is_gated_by_correctness() -> None:
    question = json.dumps({"question": "How many g are 2 kg?"})
    outcome, asked = play(
        "taxonomy", rows.seed(), [question, rated(5), "2000 g", rated(4), rated(5)],
        taxonomy=SHIPPED, branches=["foundational_skills"],
    )  # fmt: skip
    (one,) = kept([outcome])
    assert one.scores == {"question": 5.0, "correctness": 5.0, "relevance": 4.0}
    assert one.lineage["leaf"] == "foundational_skills/reasoning/units"
    assert [turn["role"] for turn in asked[2].messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert "(JSON)" not in shown(asked[3]), "the comment of a prompt file is no part of it"


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["no JSON"], "malformed: the question"),
        ([QUESTION, rated(3)], "low question: 3 of 5"),
        ([QUESTION, rated(4), "One to…"], "truncated: the answer"),
        ([QUESTION, rated(4), ""], "empty: the answer"),
        ([QUESTION, rated(4), "Two weeks.", rated(2), claims(True)], "low relevance: 2 of 5"),
        ([QUESTION, rated(4), "Two weeks.", rated(5), claims(True, False)], "unsupported: 0.50"),
        ([QUESTION, rated(4), "Two weeks.", "no JSON", claims(True)], "malformed: the relevance rating"),
    ],
)
def test_refusals(replies: list[str], reason: str) -> None:
    outcome, asked = play("taxonomy", rows.seed(), replies, taxonomy=SHIPPED, branches=["knowledge"])
    assert outcome.reason.startswith(reason)
    assert len(asked) == len(replies)


def test_a_grounded_skill_without_its_text_is_refused(tmp_path: Path) -> None:
    leaf = tmp_path / "compositional_skills" / "short"
    leaf.mkdir(parents=True)
    (leaf / "qna.yaml").write_text("seed_examples: [{context: A, question: B, answer: C}]")
    outcome, _ = play("taxonomy", rows.seed(), ['{"context": " ", "question": "x"}'], taxonomy=tmp_path)
    assert outcome.reason == "malformed: the text to work on is empty"


def by_schema(request: Request) -> str:
    """A reply that passes, whatever was asked."""
    asked = request.sampling.get("structured_outputs", {}).get("json", {}).get("properties", {})
    if "claims" in asked:
        return claims(True)
    if "score" in asked:
        return rated(5)
    return EXERCISE if "question" in asked else "So it is."


@pytest.mark.real_data
def test_the_published_taxonomy_gives_samples_of_every_leaf() -> None:
    root = real_data("instructlab_taxonomy")
    outcomes = [outcome for outcome, _ in play_many("taxonomy", 200, by_schema, taxonomy=root)]
    leaves = Counter(one.lineage["leaf"] for one in kept(outcomes))
    assert sum(leaves.values()) == 200
    # Of 16 leaves drawn evenly 200 times, one is missed once in 25,000 runs.
    assert len(leaves) == 16
    assert set(leaves) == {path.parent.relative_to(root).as_posix() for path in root.rglob("qna.yaml")}
