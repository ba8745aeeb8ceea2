"""Taxonomies in InstructLab's layout."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from generate.leaves import read_leaves
from synthloop.errors import UserError
from tests.real_data import real_data

SKILL = "task_description: Add.\nseed_examples: [{question: '2 + 2?', answer: 4}]"


def leaf(root: Path, name: str, text: str, **documents: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "qna.yaml").write_text(text)
    for stem, document in documents.items():
        (folder / f"{stem}.md").write_text(document)
    return root


def test_a_skill_of_question_and_answer(tmp_path: Path) -> None:
    (one,) = read_leaves(leaf(tmp_path, "foundational_skills/maths/adding", SKILL))
    assert (one.name, one.branch) == ("foundational_skills/maths/adding", "foundational_skills")
    assert (one.description, one.passages, one.is_grounded) == ("Add.", (), False)
    assert one.shots == (("2 + 2?", "4", None),), "a number in YAML is an answer in words"


def test_knowledge_of_the_documents_beside_it(tmp_path: Path) -> None:
    knowledge = (
        "version: 3\ndomain: insects\ndocument_outline: On bees\ndocument: {repo: x, commit: y, patterns: [a.md]}\n"
        "seed_examples:\n- context: Bees dance.\n  questions_and_answers:\n"
        "  - {question: 'Who dances?', answer: Bees}\n  - {question: 'What do bees do?', answer: Dance}\n"
    )
    leaf(tmp_path, "knowledge/bees", knowledge, a="One two three.\n\nFour five.", b="Six.")
    (tmp_path / "knowledge/bees/attribution.txt").write_text("Licence: CC0")
    (one,) = read_leaves(tmp_path, max_words=3)
    assert one.description == "insects. On bees"
    assert [(passage.id, passage.text) for passage in one.passages] == [
        ("knowledge/bees/a.md#0", "One two three."),
        ("knowledge/bees/a.md#1", "Four five."),
        ("knowledge/bees/b.md#2", "Six."),
    ]
    assert one.shots == (("Who dances?", "Bees", "Bees dance."), ("What do bees do?", "Dance", "Bees dance."))
    assert not one.is_grounded


def test_knowledge_without_documents_is_in_its_contexts(tmp_path: Path) -> None:
    text = "seed_examples: [{context: Bees dance., question: 'Who?', answer: Bees}]"
    (one,) = read_leaves(leaf(tmp_path, "knowledge/bees", text))
    assert [passage.text for passage in one.passages] == ["Bees dance."]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("knowledge/bees", SKILL, "knowledge without a text"),
        ("compositional_skills/x", "version: 4\nseed_examples: [{question: a, answer: b}]", "'version'"),
        ("compositional_skills/x", "seed_examples: []", "'seed_examples'"),
        ("compositional_skills/x", "seed_examples: [{question: a}]", "expected `question` and `answer`"),
        ("compositional_skills/x", "seed_examples: [{questions_and_answers: [{question: a}]}]", "answer' is missing"),
        ("compositional_skill/x", SKILL, "Did you mean 'compositional_skills'"),
        ("compositional_skills/x", "- 1", "expected a YAML mapping"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_leaves(leaf(tmp_path, name, text))
    assert f"{name}/qna.yaml" in str(caught.value)
    assert message in str(caught.value)


def test_branches_are_chosen_and_none_is_an_error(tmp_path: Path) -> None:
    leaf(tmp_path, "foundational_skills/a", SKILL)
    leaf(tmp_path, "compositional_skills/b", SKILL)
    assert [one.name for one in read_leaves(tmp_path, ("compositional_skills",))] == ["compositional_skills/b"]
    with pytest.raises(UserError, match="holds no qna.yaml below knowledge"):
        read_leaves(tmp_path, ("knowledge",))
    with pytest.raises(UserError, match="gone"):
        read_leaves(tmp_path / "gone")


def test_the_shipped_tree_has_every_kind_of_leaf() -> None:
    leaves = read_leaves(Path("configs/taxonomy"))
    assert {one.branch for one in leaves} == {"knowledge", "foundational_skills", "compositional_skills"}
    assert {one.is_grounded for one in leaves} == {True, False}
    assert all(len(one.shots) >= 3 for one in leaves)


@pytest.mark.real_data
def test_the_published_taxonomy_reads() -> None:
    leaves = read_leaves(real_data("instructlab_taxonomy"))
    assert Counter(one.branch for one in leaves) == {
        "foundational_skills": 11,
        "compositional_skills": 3,
        "knowledge": 2,
    }
    assert sorted(one.name.rpartition("/")[2] for one in leaves if one.is_grounded) == ["inclusion", "rewriting"]
    assert all(one.description for one in leaves)
    assert all(len(one.shots) >= 3 for one in leaves)
    assert all(one.passages for one in leaves if one.branch == "knowledge")
    chickadee = next(one for one in leaves if one.name.endswith("black_capped_chickadee"))
    assert len(chickadee.shots) == 15
    assert chickadee.shots[0].question == "Where do black-capped chickadees live?"


@given(st.text("0123456789.:_-+exXoOabftyn ", min_size=1).filter(lambda text: text == text.strip()))
@example("07:45")
@example("0090")
@example("5.20")
@example("2e4")
@example("0b11")
@example("Off")
@example("2024-02-30")
def test_an_answer_is_the_text_that_is_written(written: str) -> None:
    """Whatever YAML would make of it, where it is one plain word of YAML at all."""
    try:
        if not isinstance(yaml.load(f"a: {written}", yaml.BaseLoader), dict) or ": " in written or written[0] in "-:":
            return
    except yaml.YAMLError:
        return
    with tempfile.TemporaryDirectory() as folder:
        text = f"task_description: Say.\nseed_examples:\n- question: q\n  answer: {written}\n"
        (one,) = read_leaves(leaf(Path(folder), "foundational_skills/a", text))
    assert one.shots == (("q", written, None),)


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    text = "domain: ants\nseed_examples:\n- questions_and_answers: [{question: q, answer: a}]\n"
    leaf(tmp_path, "knowledge/ants", "\ufeff" + text, a="\ufeffAnts dig.")
    (one,) = read_leaves(tmp_path)
    assert [passage.text for passage in one.passages] == ["Ants dig."]
