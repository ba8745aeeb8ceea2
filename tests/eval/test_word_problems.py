"""The word problems' generator, and the quickstart models that ship with it."""

import re
from itertools import islice
from pathlib import Path

import pytest

from eval.tasks import word_problems
from eval.tasks.word_problems import CORPUS, KINDS, Config

QUICKSTART = Path("quickstart")


def test_same_seed_gives_the_same_problems_and_another_seed_others() -> None:
    first, again = (list(word_problems.load(Config(num_train=50), "train")) for _ in range(2))
    other = list(word_problems.load(Config(num_train=50, seed=1), "train"))
    assert first == again
    assert not {row.id for row in first} & {row.id for row in other}


def test_a_larger_size_starts_with_the_same_problems() -> None:
    small, large = (list(word_problems.load(Config(num_test=n), "test")) for n in (20, 60))
    assert large[:20] == small


@pytest.mark.parametrize("seeds", [(0, 0), (3, 7)])
def test_splits_never_overlap_whatever_the_seed(seeds: tuple[int, int]) -> None:
    train, test, corpus = (
        {problem.input for problem in islice(word_problems.draw_problems(split, seed), 2000)}
        for split, seed in (("train", seeds[0]), ("test", seeds[1]), (CORPUS, seeds[0]))
    )
    assert len(train) == len(test) == len(corpus) == 2000
    assert not train & test
    assert not (train | test) & corpus


def test_every_gold_completion_scores_one_and_nothing_else_does() -> None:
    cfg = Config(num_test=500)
    for row in word_problems.load(cfg, "test"):
        assert word_problems.score(cfg, row, row.completion).value == 1
        assert word_problems.score(cfg, row, "").value == 0
        assert word_problems.score(cfg, row, f"#### {int(row.answer or 0) + 1}").value == 0


def test_every_step_is_true_and_the_last_is_the_answer() -> None:
    for problem in islice(word_problems.draw_problems("train", 5), 2000):
        steps = re.findall(r"(\d+)([-+*/])(\d+)=(\d+)\.", problem.completion)
        results = [eval(f"{left}{sign}{right}") for left, sign, right, _ in steps]
        assert [int(result) for *_, result in steps] == results
        assert results[-1] == int(problem.answer)
        assert 0 < results[-1] < 100


def test_every_kind_is_drawn_in_its_share() -> None:
    rows = list(word_problems.load(Config(num_train=4000), "train"))
    for name, kind in KINDS.items():
        share = sum(row.slice == name for row in rows) / len(rows)
        assert share == pytest.approx(kind.weight, abs=0.03)


def test_there_is_no_validation_split() -> None:
    assert list(word_problems.load(Config(), "validation")) == []
