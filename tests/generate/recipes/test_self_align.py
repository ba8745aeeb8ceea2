"""self_align: plan under all principles, answers under those that bear on it, and none of it in the sample."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from generate.recipes.self_align import SPEAKS_OF_THEM, Config, read_principles
from synthloop.errors import UserError
from tests.generate import rows
from tests.generate.play import kept, play
from tests.generate.recipes.texts import is_guided, last, shown

PROBLEM = "Ann has 2 pens and gets 3. How many now?"
PLAN = json.dumps({"principles": [2], "thoughts": "Add carefully."})


@pytest.fixture
def principles(tmp_path: Path) -> Path:
    path = tmp_path / "principles.yaml"
    path.write_text("kind: Hurt nobody's feelings.\nexact: Check every number twice.\n")
    return path


def test_the_principles_are_in_the_prompts_and_not_in_the_sample(principles: Path) -> None:
    answers = ["2+3=6\n#### 6", "2+3=5\n#### 5", "2+3=5 again\n#### 5"]
    outcome, asked = play("self_align", rows.seed(), [PROBLEM, PLAN, *answers], principles=principles, num_solutions=3)
    (one,) = kept([outcome])
    assert (one.input, one.completion, one.answer, one.votes) == (PROBLEM, answers[1], "5", ("6", "5", "5"))
    assert one.messages == ({"role": "user", "content": PROBLEM},)
    assert one.lineage["principles"] == ["exact"]
    assert one.lineage["thoughts"] == "Add carefully."
    assert [is_guided(request) for request in asked] == [False, True, False, False, False]
    assert "2 (exact): Check every number twice." in shown(asked[1])
    assert "1 (kind): Hurt nobody's feelings." in shown(asked[1])
    for request in asked[2:]:
        assert "Check every number twice." in shown(request)
        assert "Add carefully." in shown(request)
        assert "Hurt nobody" not in shown(request), "only those that bear on the problem"
        assert last(request) == PROBLEM
        assert "#### 99" not in shown(request), "the student's wrong answer"


def test_a_failure_is_repaired_and_another_row_varied(principles: Path) -> None:
    _, (first, *_) = play("self_align", rows.seed(response="#### 99"), ["…"], principles=principles)
    assert "#### 99" in shown(first)
    outcome, (first, *_) = play("self_align", rows.seed(response=None), ["…"], principles=principles)
    assert "takes the same skill" in shown(first)
    assert outcome.reason == "truncated: the new problem hit max_tokens"


def test_an_answer_that_speaks_of_its_principles_has_no_vote(principles: Path) -> None:
    answers = ["Following the principles, #### 5", "By principle 2: #### 5", "#### 6"]
    outcome, _ = play("self_align", rows.seed(), [PROBLEM, PLAN, *answers], principles=principles, num_solutions=3)
    (one,) = kept([outcome])
    assert (one.completion, one.votes) == ("#### 6", (None, None, "6"))


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([""], "empty: the new problem"),
        ([PROBLEM, "no JSON"], "malformed: the plan is not"),
        ([PROBLEM, '{"principles": [9, 3], "thoughts": "x"}'], "unknown principle: the plan names [9, 3] of 2"),
        ([PROBLEM, PLAN, "#### 5…", "I do not know"], "no answer parses"),
        ([PROBLEM, PLAN, "By the principles, #### 5", "Principle 1 says #### 5"], "no answer parses"),
    ],
)
def test_refusals(principles: Path, replies: list[str], reason: str) -> None:
    outcome, asked = play("self_align", rows.seed(), replies, principles=principles, num_solutions=2)
    assert outcome.reason.startswith(reason)
    assert len(asked) == len(replies)


def test_words_that_only_look_like_it_may_stay() -> None:
    for text in ("Archimedes' principle says it floats.", "A guideline is no law.", "First principles of physics"):
        assert not SPEAKS_OF_THEM.search(text), text


def test_the_shipped_principles_read() -> None:
    shipped = read_principles(Config().principles)
    assert len(shipped) >= 10
    assert all(text.endswith(".") for text in shipped.values())


def test_principles_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone.yaml"):
        read_principles(tmp_path / "gone.yaml")
    path = tmp_path / "list.yaml"
    path.write_text("kind: [a, b]")
    with pytest.raises(UserError, match=r"list.yaml: 'kind'"):
        read_principles(path)
