"""The word problems' generator, and the quickstart models that ship with it."""

import re
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from eval.tasks import word_problems
from eval.tasks.word_problems import CORPUS, KINDS, Config
from generate.prompts import Prompts
from scripts import tiny_llama
from scripts.build_quickstart_models import PROMPTS, seed_of
from synthloop.records import Example

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


def _share_right(name: str, rows: list[Example]) -> float:
    tokenizer, model = tiny_llama.load(QUICKSTART / name)
    replies = tiny_llama.reply(model, tokenizer, [row.input for row in rows], max_new_tokens=56)
    return sum(word_problems.score(Config(), *pair).value for pair in zip(rows, replies, strict=True)) / len(rows)


def test_teacher_solves_and_student_is_weak_where_steps_are_chained() -> None:
    rows = list(word_problems.load(Config(num_test=120), "test"))
    chained = [row for row in rows if len(KINDS[str(row.slice)].steps) > 1]
    assert _share_right("teacher", rows) > 0.8
    assert _share_right("student", [row for row in rows if row not in chained]) > 0.5
    assert _share_right("student", chained) < 0.25


def test_teacher_writes_different_new_problems() -> None:
    tokenizer, model = tiny_llama.load(QUICKSTART / "teacher")
    shown = next(word_problems.draw_problems("train", 0, {"share": 1.0}))
    (message,) = Prompts(PROMPTS).render("repair.jinja", seed=seed_of(shown, "Total: 1+1=2.\n#### 2"))
    torch.manual_seed(0)
    written = tiny_llama.reply(model, tokenizer, [message["content"]] * 30, max_new_tokens=56, temperature=0.9)
    assert len(set(written) - {shown.input}) > 20
    assert sum(bool(re.search(r"\d.* each |split|friend", text)) and text.endswith("?") for text in written) > 20


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_every_digit_is_a_token_and_a_prompt_begins_the_whole_conversation(name: str) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(QUICKSTART / name)
    assert len(tokenizer("1234")["input_ids"]) == 4
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tom has 12 figs."}]
    asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": "#### 12"}], tokenize=False)
    assert whole == f"{asked}#### 12{tokenizer.eos_token}"
    assert "Be brief." in asked
    assert tokenizer.decode(tokenizer(whole)["input_ids"]) == whole
