"""A row is its whole conversation: in filters that compare, in what judges and people see, in what recipes show."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval import judging
from generate import review
from generate.curation import FilterContext
from generate.filters import decontaminate, dedup, execute, novelty
from generate.filters import review as people
from generate.prompts import BUILT_IN, Prompts
from generate.rubrics import read_rubric
from synthloop.records import Decision, Message, Review, Seed
from synthloop.store import Run, write_json, write_rows
from synthloop.trace import trace_lines
from tests.generate import rows
from tests.generate.play import play
from tests.generate.runs import build_run

LAST = "And how many of them are left over for the neighbours when the fair is over and all have gone home?"
SYSTEM = "You count for a farm."
Record = Callable[..., Any]


def chat(make: Record, number: int, system: str | None = None, **changes: Any) -> Any:
    """A row whose conversation is that of `number`, and ends with the same turn as all others."""
    first = [Message(role="system", content=system)] if system else []
    said = f"Barn {number} held {number * 7} hens, {number * 13} geese and {number * 31} eggs, says farmer {number}."
    turns = [said, f"Noted, farmer {number}: {number * 57} in all.", LAST]
    told = [Message(role=("user", "assistant")[n % 2], content=text) for n, text in enumerate(turns)]
    return make(number, input=LAST, messages=(*first, *told), **changes)


FIRST = {"train": 0, "probe": 100, "gate": 200, "test": 300}
SIZES = {"train": 30, "probe": 12, "gate": 8, "test": 8}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Real rows are chats; round 1 kept chat 400, and a person rejected it."""
    run = build_run(tmp_path / "run", curate={"filters": [{"name": "verify"}]})
    for name, first in FIRST.items():
        write_rows(run.split(name), [chat(rows.example, first + n) for n in range(SIZES[name])])
    write_json(run.stage(1, "curate").record_path, {})
    write_rows(run.round_dir(1) / "curated.jsonl", [chat(rows.candidate, 400)])
    write_rows(run.round_dir(1) / "rejected.jsonl", [])
    write_rows(run.reviews_path, [Review(id=rows.candidate(400).id, round=1, decision="reject")])
    return run


def refused(check: Callable[..., list[Decision]], cfg: Any, run: Run, numbers: list[int], **changes: Any) -> list[int]:
    batch = [chat(rows.candidate, number, **changes) for number in numbers]
    decisions = check(cfg, batch, FilterContext(run, 2))
    return [number for number, one in zip(numbers, decisions, strict=True) if not one.keep]


@pytest.mark.parametrize(
    ("filter", "copies"),
    [(dedup, [400, 501]), (novelty, [1, 100, 200, 300, 400, 501]), (decontaminate, [100, 200, 300]), (people, [400])],
)
def test_a_conversation_is_refused_where_it_stands_already_and_no_other_that_ends_like_it(
    run: Run, filter: Any, copies: list[int]
) -> None:
    assert refused(filter.check, filter.Config(), run, [1, 100, 200, 300, 400, 500, 501, 502, 501]) == copies


@pytest.mark.parametrize("filter", [dedup, novelty])
def test_a_solution_is_of_its_whole_conversation(run: Run, filter: Any) -> None:
    assert refused(filter.check, filter.Config(), run, [500, 501, 500], gold=True) == [500]
    real = [] if filter is dedup else [7]
    answer = rows.example(7).completion
    assert refused(filter.check, filter.Config(), run, [500, 7], gold=True, completion=answer) == real


@pytest.mark.parametrize("frame", ["{rules}\n\n{own}", "{own}\n\n{rules}"])
@pytest.mark.parametrize("gold", [False, True])
def test_an_instruction_in_front_of_every_problem_makes_none_a_copy(tmp_path: Path, frame: str, gold: bool) -> None:
    rules = " ".join(f"Rule {n}: of matter {n} say no more than its name, and say it once." for n in range(9))
    own = [f"{n} sheep and {n * 7} goats met by gate {n * 13}, said shepherd {n * 31}" for n in range(90)]
    texts = [frame.format(rules=rules, own=one) for one in own]
    run = build_run(tmp_path / "run")
    for name, first in (("train", 0), ("probe", 30), ("gate", 40), ("test", 50)):
        size = 30 if name == "train" else 10
        write_rows(run.split(name), [rows.example(n, input=texts[n]) for n in range(first, first + size)])
    batch = [rows.candidate(n, input=texts[n], gold=gold, completion="yes") for n in (35, *range(60, 90))]
    for filter in (dedup, novelty, decontaminate):
        kept = [one.keep for one in filter.check(filter.Config(), batch, FilterContext(run, 1))]
        assert kept[1:] == [True] * 30
        assert kept[0] == (filter is dedup or (gold and filter is novelty)), "a copy of a probe row"


def test_a_held_out_problem_that_most_of_a_round_copies_is_no_instruction(run: Run) -> None:
    one = chat(rows.example, 301).messages
    texts = [f"{one[0]['content']} Say it {n} times over, {n * 7} at most." for n in range(200)]
    batch = [rows.candidate(n, input=text) for n, text in enumerate(texts)]
    assert not any(one.keep for one in decontaminate.check(decontaminate.Config(), batch, FilterContext(run, 1)))


def test_tests_are_those_of_the_whole_conversation(run: Run) -> None:
    ctx = FilterContext(run, 2)
    example = chat(rows.example, 3, meta={"tests": ["assert f() == 1"]})
    ctx.seeds = {"s": Seed(id="s", recipe="r", example=example)}  # a cached property
    tests = [execute.tests_of(execute.Config(), chat(rows.candidate, n, seed_id="s"), ctx) for n in (3, 4)]
    assert tests == [["assert f() == 1"], []]


def told(text: str) -> bool:
    """Whether all turns of chat 5, and its system turn, are shown."""
    return all(turn["content"] in text for turn in chat(rows.example, 5, SYSTEM).messages)


def test_judges_and_people_are_shown_every_turn(run: Run, tmp_path: Path) -> None:
    one, row = chat(rows.candidate, 5, SYSTEM), chat(rows.example, 5, SYSTEM)
    assert told(judging.messages(row, "reply", "")[-1]["content"])
    for name in ("judge_grade", "self_eval_p_ik", "self_eval_p_true", "adherence_claims"):
        turns = Prompts().render(f"{name}.jinja", candidate=one, rubric=read_rubric(None), votes=())
        assert told(turns[-1]["content"]), name
    compared = {"first": one, "second": chat(rows.candidate, 6, SYSTEM), "rubric": read_rubric(None)}
    assert told(Prompts().render("judge_compare.jinja", **compared)[-1]["content"])
    write_rows(run.round_dir(1) / "candidates.jsonl", [one])
    write_rows(run.round_dir(1) / "curated.jsonl", [one])
    write_rows(run.round_dir(1) / "seeds.jsonl", [Seed(id="s", recipe="r", example=row)])
    assert review.export(run, 1, tmp_path / "queue.jsonl", 1) == 1
    assert told(json.loads((tmp_path / "queue.jsonl").read_text())["conversation"])
    write_rows(run.split("train"), [row])
    assert told("\n".join(line.removeprefix("    ") for line in trace_lines(run, row.id)))


@pytest.mark.parametrize("path", sorted(BUILT_IN.glob("*.jinja")), ids=lambda path: path.name)
def test_no_prompt_shows_a_row_by_its_last_turn(path: Path) -> None:
    assert not re.search(r"\.input\b|messages\[-1\]", path.read_text())


@pytest.mark.parametrize(
    "name", ["repair", "evolve", "self_instruct", "multi_agent", "personas", "variation", "explore"]
)
def test_a_recipe_shows_the_conversation_and_asks_for_one_message(name: str) -> None:
    seed = rows.seed(1, example=chat(rows.example, 5, SYSTEM), demonstrations=(chat(rows.example, 6),))
    _, asked = play(name, seed, lambda request: "…")
    text = asked[0].messages[-1]["content"]
    assert told(text)
    assert ("one single message" in text) or name == "personas"
    _, asked = play(name, rows.seed(1), lambda request: "…")
    assert "one single message" not in asked[0].messages[-1]["content"]


def test_an_example_of_the_form_is_a_whole_conversation() -> None:
    row = chat(rows.example, 5, SYSTEM)
    turns = Prompts().render("solve.jinja", seed=rows.seed(1, demonstrations=(row,)), prompt="How many?")
    assert [turn["role"] for turn in turns] == ["system", *("user", "assistant") * 2, "user"]
    assert turns[1]["content"] == f"{SYSTEM}\n\n{row.messages[1]['content']}"
    assert [turn["content"] for turn in turns[2:5]] == [row.messages[2]["content"], LAST, row.completion]
