"""A reward model with weights set by hand, so that its outputs are known, and the quickstart's own."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eval.scoring import numeric
from eval.tasks.word_problems import draw_problems
from generate.curation import FilterContext
from generate.filters import reward
from scripts.build_quickstart_models import wrong_answer
from synthloop.errors import UserError
from synthloop.records import Candidate
from tests.generate import rows
from tests.generate.runs import build_run
from tests.tiny import build_tiny_model, build_tokenizer


def build_llama(folder: Path, num_labels: int = 2, *, padding: bool = True) -> Path:
    """A random Llama whose outputs differ from text to text."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=384,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=128,
        initializer_range=0.3,
        num_labels=num_labels,
        pad_token_id=tokenizer.pad_token_id if padding else None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForSequenceClassification(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_bert(folder: Path, biases: list[float]) -> Path:
    """A BERT whose head has no weights: its outputs are `biases`, whatever it reads."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = build_tokenizer()
    tokenizer.chat_template = None
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = BertConfig(vocab_size=384, max_position_embeddings=128, num_labels=len(biases), pad_token_id=0, **shape)
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor(biases))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def ctx(tmp_path: Path) -> FilterContext:
    return FilterContext(build_run(tmp_path / "run"), 1)


THREE = {
    "helpfulness": {"output": 0, "weight": 0.5, "min": 1.0},
    "coherence": {"output": 2, "weight": 2.0},
    "verbosity": {"output": 1, "weight": -0.25},
}


@pytest.mark.parametrize(
    ("biases", "min_score", "reason"),
    [
        ([2.0, 4.0, 1.5], 3.0, None),
        ([2.0, 4.0, 1.5], 3.1, "low: score 3.00, below 3.1"),
        ([0.5, 4.0, 1.5], None, "low helpfulness: 0.50, below 1.0"),
    ],
)
def test_attributes_are_weighted_and_have_limits(
    tmp_path: Path, ctx: FilterContext, biases: list[float], min_score: float | None, reason: str | None
) -> None:
    cfg = reward.Config.model_validate(
        {
            "model": str(build_bert(tmp_path / "bert", biases)),
            "input": "pair",
            "attributes": THREE,
            "min_score": min_score,
        }
    )
    (decision,) = reward.check(cfg, [rows.candidate(scores={"verify": 1.0})], ctx)
    assert decision.reason == reason
    assert decision.score == pytest.approx(0.5 * biases[0] + 2 * biases[2] - 0.25 * biases[1])
    if reason is None:
        assert decision.scores == {
            "reward_helpfulness": 2.0,
            "reward_coherence": 1.5,
            "reward_verbosity": 4.0,
        }


BATCH = [rows.candidate(n, completion="one more word " * (n % 3) + f"#### {n}") for n in range(7)]


def alone(folder: Path, one: Candidate) -> list[float]:
    """What transformers gives for one text, with nothing of ours in between."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    turns = [*one.messages, {"role": "assistant", "content": one.completion}]
    ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        outputs: list[float] = model(input_ids=ids).logits[0].float().tolist()
    return outputs


@pytest.mark.parametrize("padding", [True, False])
def test_a_batch_gives_what_each_text_gives_alone(tmp_path: Path, ctx: FilterContext, padding: bool) -> None:
    folder = build_llama(tmp_path / "llama", padding=padding)
    attributes: Any = {"a": {"output": 0}, "b": {"output": 1, "weight": 0}}
    cfg = reward.Config(model=str(folder), attributes=attributes, batch_size=3)
    decisions = reward.check(cfg, BATCH, ctx)
    assert [one.score for one in decisions] == pytest.approx([alone(folder, one)[0] for one in BATCH], abs=1e-4)
    assert len({round(one.score or 0, 4) for one in decisions}) == len(BATCH)
    assert [one.scores["reward_b"] for one in decisions] == pytest.approx(
        [alone(folder, one)[1] for one in BATCH], abs=1e-4
    )
    assert reward.check(cfg, BATCH, ctx) == decisions


def test_what_is_too_long_is_refused_and_the_rest_is_judged(tmp_path: Path, ctx: FilterContext) -> None:
    cfg = reward.Config(model=str(build_llama(tmp_path / "llama")))
    batch = [BATCH[0], rows.candidate(completion="word " * 200), BATCH[1]]
    decisions = reward.check(cfg, batch, ctx)
    assert [one.keep for one in decisions] == [True, False, True]
    assert str(decisions[1].reason).startswith("too long: ")
    assert "reads 128" in str(decisions[1].reason)


def test_models_that_cannot_judge_are_refused(tmp_path: Path, ctx: FilterContext) -> None:
    causal = reward.Config(model=str(build_tiny_model(tmp_path / "causal")))
    with pytest.raises(UserError, match="no trained head"):
        reward.check(causal, BATCH, ctx)
    few = reward.Config.model_validate(
        {"model": str(build_llama(tmp_path / "two")), "attributes": {"x": {"output": 2}}}
    )
    with pytest.raises(UserError, match=r"attributes.x.output is 2, but .* has 2 outputs"):
        reward.check(few, BATCH, ctx)
    with pytest.raises(UserError, match="Set `input: pair`"):
        reward.check(reward.Config(model=str(build_bert(tmp_path / "bert", [1.0]))), BATCH, ctx)
    with pytest.raises(UserError, match="refuses the model"):
        reward.check(reward.Config(model=str(tmp_path / "nowhere")), BATCH, ctx)


def test_the_quickstarts_model_tells_most_right_answers_from_wrong_ones(ctx: FilterContext) -> None:
    problems = list(islice(draw_problems("test", seed=1), 100))
    rng = Random(0)
    answers = [one.completion if n % 2 else wrong_answer(one, rng) for n, one in enumerate(problems)]
    batch = [
        rows.candidate(n, input=one.input, completion=answer)
        for n, (one, answer) in enumerate(zip(problems, answers, strict=True))
    ]
    kept = [one.keep for one in reward.check(reward.Config(model="quickstart/reward", min_score=0.0), batch, ctx)]
    right = [numeric(one.answer, answer).correct for one, answer in zip(problems, answers, strict=True)]
    keep_right = [keep for keep, mark in zip(kept, right, strict=True) if mark]
    keep_wrong = [keep for keep, mark in zip(kept, right, strict=True) if not mark]
    # Measured: 70 of 70 and 0 of 30.
    assert sum(keep_right) > 0.9 * len(keep_right)
    assert sum(keep_wrong) < 0.3 * len(keep_wrong)
