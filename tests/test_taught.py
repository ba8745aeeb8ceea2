"""What training teaches, as scoring reads it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloop import taught
from synthloop.errors import UserError
from synthloop.records import Example, Message
from synthloop.task import Task, open_task
from tests.shapes import SHAPES, Shape, tokenizer_of

TOKENIZER = tokenizer_of(Shape("", ("<|think|>", "</s>"), "</s>"))


def task(scorer: str) -> Task:
    return open_task("jsonl", {"train": "t.jsonl", "scorer": scorer})


def example(completion: str, answer: str) -> Example:
    turns = (Message(role="user", content="2 + 2?"),)
    return Example(id="e", input="2 + 2?", messages=turns, completion=completion, answer=answer)


def writing(before: str) -> Any:
    """The tokenizer with a template that writes `before` in front of a reply."""
    TOKENIZER.chat_template = (
        "{% for m in messages %}{{ BEFORE if m.role == 'assistant' }}{{ m.content }}</s>{% endfor %}"
    ).replace("BEFORE", repr(before))
    return TOKENIZER


@settings(max_examples=30, deadline=None)
@given(before=st.text(alphabet="ab \n", max_size=4), special=st.booleans())
def test_a_reply_behind_other_text_is_lost_to_a_scorer_that_reads_all_of_it(before: str, special: bool) -> None:
    """Special tokens and blanks are taken off before a reply is scored."""
    tokenizer = writing(("<|think|>" if special else "") + before)
    mistake = taught.lost_score(tokenizer, task("exact"), [example("cat", "cat")], {})
    assert (mistake is None) == (not before.strip())


@pytest.mark.parametrize(
    ("scorer", "completion", "answer", "is_lost"),
    [
        ("numeric", "It is 4. #### 4", "4", False),  # reads the answer wherever it stands
        ("exact", "5", "4", False),  # wrong as it stands: said of the data
        ("exact", "4", "4", True),
    ],
)
def test_only_a_score_that_the_template_costs_is_a_mistake(
    scorer: str, completion: str, answer: str, is_lost: bool
) -> None:
    found = taught.lost_score(writing("final"), task(scorer), [example(completion, answer)], {})
    assert (found is not None) == is_lost


def test_a_judge_is_no_scorer_and_a_turn_without_an_end_is_refused_all_the_same() -> None:
    judged = open_task("jsonl", {"train": "t.jsonl", "scorer": "judge", "judge": "judge"})
    assert taught.lost_score(writing("final"), judged, [example("4", "4")], {}) is None
    endless = tokenizer_of(SHAPES["no end"])
    endless.eos_token = None
    with pytest.raises(UserError, match="never learn to stop"):
        taught.lost_score(endless, judged, [example("4", "4")], {})
