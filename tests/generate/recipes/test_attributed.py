"""attributed: the order of the cells, what the prompt holds, and the cell in the lineage."""

from __future__ import annotations

from collections import Counter
from itertools import product
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from generate.context import Reject
from generate.recipes import attributed
from tests.generate import rows
from tests.generate.play import play

GRID = {"length": ["short", "long"], "style": ["plain", "news"], "topic": ["money", "time", "food"]}

grids = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(
    lambda sizes: {f"a{n}": [f"{n}-{i}" for i in range(size)] for n, size in enumerate(sizes)}
)


@given(grids, st.integers(0, 10**6))
def test_every_cell_comes_once_before_any_comes_again(grid: dict[str, list[str]], period: int) -> None:
    size = prod(map(len, grid.values()))
    cells = [tuple(attributed.cell(grid, period * size + number).values()) for number in range(size)]
    assert sorted(cells) == sorted(product(*grid.values()))


@given(grids, st.integers(1, 200))
def test_every_beginning_has_the_values_of_an_attribute_about_equally_often(
    grid: dict[str, list[str]], number: int
) -> None:
    cells = [attributed.cell(grid, n) for n in range(number)]
    for name, values in grid.items():
        counts = Counter(cell[name] for cell in cells)
        # Off by one where the number is no multiple, and by one more for each shift within it.
        assert max(counts.values()) - min(counts[value] for value in values) <= len(grid)


def test_the_cells_of_a_known_grid() -> None:
    assert [tuple(attributed.cell(GRID, n).values()) for n in range(4)] == [
        ("short", "plain", "money"),
        ("long", "news", "time"),
        ("short", "news", "food"),
        ("long", "plain", "money"),
    ]


def test_the_seed_s_number_chooses_the_cell_that_the_prompt_and_the_lineage_name() -> None:
    seed = rows.seed(3, id="attributed-00002", response=None)
    outcome, asked = play(
        "attributed", seed, ["A new one?", "#### 7", "#### 7"],
        conditions=GRID, specification="sums in words", num_solutions=2,
    )  # fmt: skip
    prompt = asked[0].messages[-1]["content"]
    assert all(line in prompt for line in ("- length: short\n", "- style: news\n", "- topic: food\n"))
    assert "sums in words" in prompt
    assert "<student_answer>" not in prompt
    assert "- length" not in asked[1].messages[-1]["content"]
    assert (outcome.input, outcome.completion, outcome.votes) == ("A new one?", "#### 7", ("7", "7"))
    assert outcome.lineage["cell"] == {"length": "short", "style": "news", "topic": "food"}
    assert outcome.lineage["prompts"] == ["attributed.jinja", "solve.jinja"]


def test_a_failure_shows_the_wrong_answer_to_the_author_only() -> None:
    _, asked = play(
        "attributed", rows.seed(response="I say #### 99"), ["A new one?", "#### 7"], conditions=GRID, num_solutions=1
    )
    assert "I say #### 99" in asked[0].messages[-1]["content"]
    assert all("99" not in turn["content"] for turn in asked[1].messages)


@pytest.mark.parametrize(("replies", "reason"), [(["A new…"], "truncated"), (["A new?", "?"], "no solution")])
def test_refusals(replies: list[str], reason: str) -> None:
    outcome, _ = play("attributed", rows.seed(), replies, conditions=GRID, num_solutions=1)
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith(reason)


@pytest.mark.parametrize("conditions", [{}, {"length": []}])
def test_an_empty_grid_is_refused(conditions: dict[str, list[str]]) -> None:
    with pytest.raises(ValidationError):
        attributed.Config(conditions=conditions)
