"""Embeddings of the quickstart student and of a random encoder, against plain transformers one text at a time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthloop.embeddings import embed
from synthloop.errors import UserError

STUDENT = str(Path(__file__).parents[1] / "quickstart" / "student")
TEXTS = [
    "Tom has 3 apples.",
    "",
    "Tom has 38 dollars and buys 4 pens for 5 dollars each. How much money does Tom have left?",
    "Mia has 4 pens.",
    "Tom has 3 apples.",
    "Cost: 4*5=20.\nLeft: 38-20=18.\n#### 18",
]


def by_hand(text: str, folder: str, limit: int | None = None) -> Any:
    """The mean of the last hidden states of `text` alone, without padding, normalised."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"][:, :limit]
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()(input_ids=ids).last_hidden_state[0]
    mean = states.mean(0).numpy()
    return mean / np.linalg.norm(mean)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random BERT, whose every token looks at every other and so at padding that is not masked."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = str(tmp_path_factory.mktemp("bert"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=640, max_position_embeddings=64, **sizes)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(STUDENT).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_rows_are_those_of_each_text_alone(kind: str, encoder: str) -> None:
    folder = STUDENT if kind == "causal" else encoder
    rows = embed(TEXTS, folder)
    assert rows.shape == (len(TEXTS), 128 if kind == "causal" else 32)
    assert rows.dtype == np.float32
    for text, row in zip(TEXTS, rows, strict=True):
        if text:
            np.testing.assert_allclose(row, by_hand(text, folder), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_the_same_call_gives_the_same_bytes_and_small_batches_the_same_rows() -> None:
    rows = embed(TEXTS, STUDENT)
    assert embed(TEXTS, STUDENT).tobytes() == rows.tobytes()
    np.testing.assert_allclose(embed(TEXTS, STUDENT, batch_tokens=1), rows, atol=1e-5)
    np.testing.assert_allclose(embed(TEXTS[::-1], STUDENT), rows[::-1], atol=1e-5)


def test_similar_texts_are_nearer_than_others() -> None:
    texts = [
        "Tom has 38 dollars and buys 4 pens for 5 dollars each. How much money does Tom have left?",
        "Mia has 31 dollars and buys 5 cups for 4 dollars each. How much money does Mia have left?",
        "4 friends split 3 bags of 8 nuts evenly. How many nuts does each friend get?",
    ]
    similar = embed(texts, STUDENT)
    products = similar @ similar.T
    assert products[0, 1] > products[0, 2] + 0.02
    assert products[0, 1] > products[1, 2] + 0.02


def test_long_texts_are_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="synthloop.embeddings"):
        rows = embed([TEXTS[2], TEXTS[3]], STUDENT, max_length=8)
        long = embed([TEXTS[2] * 100], STUDENT)
    np.testing.assert_allclose(rows[0], by_hand(TEXTS[2], STUDENT, limit=8), atol=1e-5)
    np.testing.assert_allclose(long[0], by_hand(TEXTS[2] * 100, STUDENT, limit=512), atol=1e-5)
    messages = [one.getMessage() for one in caplog.records if one.name == "synthloop.embeddings"]
    assert len(messages) == 2
    assert "1 of 2 texts are longer than the 8 tokens" in messages[0]
    assert "1 of 1 texts are longer than the 512 tokens" in messages[1]


def test_no_texts() -> None:
    assert embed([], STUDENT).shape == (0, 128)


def test_a_folder_without_a_model_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No model for embeddings"):
        embed(["a"], str(tmp_path))
