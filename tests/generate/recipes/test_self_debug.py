"""Self-Debug: run, explain, fix, in the real sandbox."""

from __future__ import annotations

import json
from typing import Any

import pytest

from generate import sandbox
from generate.context import Reject
from generate.recipes.self_debug import Config
from synthloop.errors import UserError
from synthloop.records import Candidate, Seed
from synthloop.unit_tests import fenced
from tests.generate import rows
from tests.generate.play import play
from tests.generate.sandboxed import skip_unless_confined

TESTS = ["assert double(2) == 4", "assert double(3) == 6", "assert double(0) == 0"]
RIGHT = "def double(x):\n    return 2 * x"
SQUARE = "def double(x):\n    return x ** 2"


@pytest.fixture(autouse=True)
def confined() -> None:
    skip_unless_confined()


def proposal(**changes: Any) -> str:
    values = {"problem": "Write double(x), which returns twice x.", "function": "double", "tests": TESTS}
    return json.dumps({**values, **changes})


def real(**changes: Any) -> Seed:
    return rows.seed(response=None, example=rows.example(meta={"tests": TESTS}), **changes)


def test_code_that_passes_at_once_is_kept() -> None:
    outcome, asked = play("self_debug", rows.seed(), [proposal(), f"Sure!\n{fenced(RIGHT)}\nDone."], coder="coder")
    assert isinstance(outcome, Candidate)
    assert outcome.input == f"Write double(x), which returns twice x.\n\n{TESTS[0]}"
    assert outcome.completion == fenced(RIGHT)
    assert outcome.messages[-1]["content"].startswith("Write double(x)")
    assert outcome.scores == {"turns": 0.0}
    assert outcome.lineage["tests"] == TESTS
    assert (outcome.lineage["turns"], outcome.lineage["problem_from"]) == ([], "teacher")
    assert [one.role for one in asked] == ["teacher", "coder"]
    assert "#### 99" in asked[0].messages[-1]["content"], "the teacher sees what the student got wrong"
    shown = str(asked[1].messages)
    assert TESTS[0] in shown
    assert not any(hidden in shown for hidden in ("#### 99", *TESTS[1:]))


def test_code_is_run_explained_and_fixed() -> None:
    broken = fenced("def double(x):\n    return x +")
    replies = [proposal(), broken, "It ends early.", fenced(SQUARE), "It squares.", fenced(RIGHT)]
    outcome, asked = play("self_debug", rows.seed(), replies, max_turns=2)
    assert isinstance(outcome, Candidate)
    assert outcome.completion == fenced(RIGHT)
    assert outcome.scores == {"turns": 2.0}
    first, second = outcome.lineage["turns"]
    assert (first["answer"], first["explanation"]) == (broken, "It ends early.")
    assert "SyntaxError" in first["feedback"]
    assert second["feedback"] == "2 of 3 tests pass. assert double(3) == 6\ndouble(3) is 9"
    explain, fix = asked[4].messages, asked[5].messages
    assert [turn["role"] for turn in explain] == ["system", "user", "assistant", "user"]
    assert explain[2]["content"] == fenced(SQUARE)
    assert second["feedback"] in explain[-1]["content"]
    assert "It ends early." not in str(explain), "only the present code is in view"
    assert [turn["role"] for turn in fix[-2:]] == ["assistant", "user"]
    assert fix[-2]["content"] == "It squares."


def test_a_train_row_with_tests_is_solved_as_it_is() -> None:
    outcome, asked = play("self_debug", real(), [fenced(RIGHT)])
    assert isinstance(outcome, Candidate)
    assert (outcome.input, outcome.messages) == (rows.example().input, rows.example().messages)
    assert (outcome.lineage["problem_from"], outcome.lineage["tests"]) == ("train", TESTS)
    assert rows.example().completion not in str(asked[0].messages), "the gold is not shown"


def test_a_failure_is_held_out() -> None:
    outcome, asked = play("self_debug", real().model_copy(update={"response": "pass"}), [proposal(), fenced(RIGHT)])
    assert isinstance(outcome, Candidate)
    assert outcome.lineage["problem_from"] == "teacher"
    assert "JSON" in asked[0].messages[0]["content"]
    outcome, _ = play("self_debug", real(), [proposal(), fenced(RIGHT)], use_real=False)
    assert isinstance(outcome, Candidate)
    assert outcome.lineage["problem_from"] == "teacher"


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["A problem."], "malformed: "),
        ([proposal(problem=" ")], "malformed: "),
        ([proposal(tests=TESTS[:2])], "malformed: "),
        ([proposal(function="a b")], "bad tests: 'a b' is no name"),
        ([proposal(function="triple")], "bad tests: one does not call triple"),
        ([proposal(tests=["assert double(", *TESTS])], "bad tests: 1 of 4 are no Python"),
        ([proposal(tests=["assert not double(0)"] * 3)], "bad tests: a function that does nothing passes them"),
        ([proposal(), "It is x times two."], "failed: The reply has no Python code block."),
        ([proposal(), fenced(SQUARE)], "failed: 2 of 3 tests pass."),
        ([proposal(), fenced("while True: pass")], "timeout: The code did not end in the time allowed."),
        ([proposal(), f"{fenced(RIGHT)}…"], "truncated: "),
    ],
)
def test_what_never_passes_is_refused(replies: list[str], reason: str) -> None:
    limits = {"wall_s": 4, "cpu_s": 1}
    outcome, asked = play("self_debug", rows.seed(), replies, max_turns=0, limits=limits)
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith(reason)
    assert len(asked) == len(replies)


def test_the_turns_are_counted() -> None:
    outcome, asked = play("self_debug", real(), [fenced(SQUARE), "It squares."] * 2 + [fenced(SQUARE)], max_turns=2)
    assert isinstance(outcome, Reject)
    assert len(asked) == 5


def test_nothing_is_asked_where_code_cannot_be_confined(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UserError("Model-written code cannot be confined")

    monkeypatch.setattr(sandbox, "require", refuse)
    with pytest.raises(UserError, match="cannot be confined"):
        play("self_debug", rows.seed(), [])


def test_limits_are_set_in_the_config() -> None:
    assert Config.model_validate({"limits": {"cpu_s": 2}}).limits.cpu_s == 2
