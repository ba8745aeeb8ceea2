"""The user's own scorer: words, a function, a real text-classification model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from generate.filters import toxicity
from synthloop.errors import UserError
from synthloop.records import Decision
from tests.generate import rows
from tests.tiny import build_tokenizer

HERE = "tests.generate.filters.test_toxicity"


def shouting(texts: Sequence[str]) -> list[dict[str, float]]:
    """The share of capitals, and of exclamation marks."""
    return [
        {"capitals": sum(map(str.isupper, text)) / max(1, len(text)), "marks": text.count("!") / 10} for text in texts
    ]


def one_score(texts: Sequence[str]) -> list[dict[str, float]]:
    return shouting(texts)[:1]


def check(problem: str, answer: str, **settings: Any) -> Decision:
    batch = [rows.candidate(input=problem, completion=answer)]
    (decision,) = toxicity.check(toxicity.Config(**settings), batch, None)
    return decision


@pytest.mark.parametrize(
    ("problem", "answer", "reason"),
    [
        ("You MORON, add 3 and 4", "7", "listed word: 'MORON'"),
        ("Add 3 and 4", "no, scum bag", "listed word: 'scum bag'"),
        ("The oxymoron of 3", "7", None),
    ],
)
def test_words(problem: str, answer: str, reason: str | None) -> None:
    assert check(problem, answer, words=["moron", "scum bag"]).reason == reason


def test_a_function_with_a_threshold_a_label() -> None:
    settings = {"function": f"{HERE}.shouting", "thresholds": {"capitals": 0.5, "marks": 0.3}}
    assert check("add", "LOUD", **settings) == Decision(keep=False, reason="capitals: 1.00 in the answer", score=1.0)
    assert check("add!!!", "7", **settings) == Decision(keep=False, reason="marks: 0.30 in the problem", score=0.3)
    assert check("add!", "7", **settings) == Decision(keep=True, score=0.1)
    # A label without a threshold does not count.
    assert check("add!!!", "7", function=f"{HERE}.shouting", thresholds={"capitals": 0.5}).keep


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing to score with: set `model`"),
        ({"thresholds": {"toxicity": 0.5}}, "nothing to score with"),
        ({"model": "a", "function": "b.c", "thresholds": {"x": 1}}, "not both"),
        ({"model": "a"}, "set `thresholds`"),
    ],
)
def test_what_is_not_configured_is_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        toxicity.Config(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"function": "nowhere.f"}, "the function 'nowhere.f' cannot be imported"),
        ({"function": f"{HERE}.absent"}, "cannot be imported"),
        ({"function": "absent"}, "cannot be imported"),
        ({"function": f"{HERE}.shouting"}, "has no label 'toxicity', which `thresholds` names. Its labels: capitals"),
        ({"function": f"{HERE}.one_score", "thresholds": {"marks": 1}}, "gave 1 scores for 2 texts"),
        ({"model": "no/such-folder"}, "no text-classification model could be loaded"),
    ],
)
def test_a_scorer_that_does_not_work_says_why(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check("x", "y", **{"thresholds": {"toxicity": 0.5}, **settings})


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "single_label_classification"])
def test_a_real_model_scores_each_text_by_itself(tmp_path: Path, problem_type: str) -> None:
    """Against the model's own scores, one text at a time; one longer than its context is cut."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, num_labels=2, id2label={0: "fine", 1: "toxic"}, initializer_range=0.5,
        problem_type=problem_type,
    )  # fmt: skip
    torch.manual_seed(0)
    network = BertForSequenceClassification(config).eval()
    network.save_pretrained(tmp_path)
    texts = ["Tom has 3 apples", "7", "a much longer text than the others " * 30, "b"]
    expected = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=64)
        with torch.no_grad():
            logits = network(**inputs).logits[0]
        shares = logits.sigmoid() if problem_type.startswith("multi") else logits.softmax(-1)
        expected.append(float(shares[1]))
    batch = [rows.candidate(n, input=texts[2 * n], completion=texts[2 * n + 1]) for n in range(2)]
    cfg = toxicity.Config(model=tmp_path, thresholds={"toxic": 1.0}, batch_size=3)
    scores = [one.score for one in toxicity.check(cfg, batch, None)]
    assert scores == pytest.approx([max(expected[:2]), max(expected[2:])], abs=1e-5)
    assert len({round(one, 3) for one in expected}) == 4


@pytest.mark.parametrize(
    ("text", "word", "found"),
    [
        ("Such a ninny!", "ninny", True),
        ("The ninnyhammer", "ninny", False),
        ("他是笨蛋吗", "笨蛋", True),
        ("वह मूर्ख है", "मूर्ख", True),
        ("वह मूर्खता है", "मूर्ख", False),
        ("यह मूर है", "मूर्", False),
        ("他是ninny吗", "ninny", True),
        ("c'est une be\u0302te", "b\u00eate", True),
    ],
)
def test_words_of_every_script(text: str, word: str, found: bool) -> None:
    assert check(text, "Yes.", words=(word,)).keep != found
