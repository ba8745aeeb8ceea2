"""Self-Instruct: what is shown, what counts as new, and what becomes of each invented problem."""

from __future__ import annotations

import json

import pytest

from generate.context import Reject
from synthloop.records import Candidate
from tests.generate import rows
from tests.generate.play import play

NEW = "A train leaves with 30 people and 12 get off at the lake. How many are left on board?"
OTHER = "Each of 3 jars holds 5 beads. How many beads do the jars hold together?"
COPY = "Tom has 7 apples and buys 4 more. How many apples does he have now?"


def problems(*texts: str) -> str:
    return json.dumps({"problems": texts})


def test_each_new_problem_is_answered_by_its_own_vote() -> None:
    replies = [problems(NEW, OTHER), "30-12=18\n#### 18", "#### 17", "#### 18", "3*5=15\n#### 15", "#### 15", "no idea"]
    outcomes, asked = play("self_instruct", rows.seed(), replies, num_solutions=3)
    first, second = outcomes
    assert isinstance(first, Candidate)
    assert isinstance(second, Candidate)
    assert (first.input, first.completion, first.answer, first.votes) == (
        NEW,
        "30-12=18\n#### 18",
        "18",
        ("18", "17", "18"),
    )
    assert (second.input, second.answer, second.votes) == (OTHER, "15", ("15", "15", None))
    assert [one.id for one in outcomes] == ["r001-repair-00000", "r001-repair-00000.1"]
    assert not first.gold
    assert 0 < first.scores["rouge_l"] < 0.7
    assert first.lineage["source_ids"] == ["real-0", "real-100", "real-101"]
    assert first.lineage["prompts"] == ["self_instruct_tasks.jinja", "solve.jinja"]
    assert len(asked) == 7
    assert NEW in asked[1].messages[-1]["content"]
    assert OTHER in asked[4].messages[-1]["content"]


def test_the_whole_pool_is_shown_and_nothing_of_the_failure() -> None:
    seed = rows.seed(response="the student said #### 99")
    _, (first, *_) = play("self_instruct", seed, [problems(COPY)], num_problems=2)
    shown = first.messages[-1]["content"]
    assert all(one.input in shown for one in (seed.example, *seed.demonstrations))
    assert "Invent 2 more problems" in shown
    assert "99" not in shown
    assert "####" not in shown, "no answers: the teacher is to invent problems only"


def test_the_order_of_the_pool_is_drawn_per_conversation() -> None:
    orders = set()
    for number in range(8):
        seed = rows.seed(id=f"self_instruct-{number:05d}")
        _, (first, *_) = play("self_instruct", seed, [problems(COPY)])
        shown = first.messages[-1]["content"]
        texts = [one.input for one in (seed.example, *seed.demonstrations)]
        orders.add(tuple(sorted(texts, key=shown.index)))
    assert len(orders) > 1


def test_what_reads_like_the_pool_or_like_an_earlier_new_one_is_refused() -> None:
    replies = [problems(COPY, NEW, NEW.replace("30", "31")), "#### 18", "#### 18"]
    outcomes, asked = play("self_instruct", rows.seed(), replies, num_solutions=2)
    assert [type(one) for one in outcomes] == [Reject, Candidate, Reject]
    assert outcomes[0].reason == "not new: ROUGE-L 0.93 with a problem of the pool"
    assert outcomes[2].reason.startswith("not new:")
    assert len(asked) == 3, "a refused problem is not solved"


def test_the_bound_is_a_setting() -> None:
    outcomes, _ = play(
        "self_instruct", rows.seed(), [problems(COPY), "#### 11"], num_solutions=1, max_rouge_l=0.95, num_problems=1
    )
    assert isinstance(outcomes[0], Candidate)


def test_more_problems_than_asked_for_are_cut_off() -> None:
    outcomes, _ = play("self_instruct", rows.seed(), [problems(NEW, OTHER), "#### 18"], num_solutions=1, num_problems=1)
    assert [one.input for one in outcomes] == [NEW]


def test_a_vote_that_fails_refuses_its_problem_only() -> None:
    outcomes, _ = play("self_instruct", rows.seed(), [problems(NEW, " ", OTHER), "no idea", "#### 15"], num_solutions=1)
    assert [type(one) for one in outcomes] == [Reject, Reject, Candidate]
    assert outcomes[0].reason.startswith("no solution")
    assert outcomes[1].reason.startswith("empty")


def test_a_problem_that_is_too_long_costs_itself_and_any_text_is_one() -> None:
    formula = 'Let "f" be $\\frac{1}{2}$.\nWhat is f + 3?'
    outcomes, _ = play("self_instruct", rows.seed(), [problems("x" * 1501, formula), "#### 15"], num_solutions=1)
    assert outcomes[0] == Reject("too long: a problem of 1501 characters, more than 1500")
    assert outcomes[1].input == formula


@pytest.mark.parametrize(
    ("reply", "kind"), [("no JSON", "malformed"), ('{"problems": []}', "malformed"), ("{…", "truncated")]
)
def test_a_reply_without_a_list_is_refused(reply: str, kind: str) -> None:
    outcome, _ = play("self_instruct", rows.seed(), [reply])
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith(f"{kind}:")
