"""The transformers engine's own parts; `test_contract.py` holds it against the other engines."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthloop import chat
from synthloop.engines import hf
from synthloop.engines._transformers import MinTokens, Penalties, StopStrings, reply_text
from synthloop.errors import UserError

PIECES = ["a", "b", "ab", "ba", "", "aab"]  # the texts of tokens 0 to 5
TEXTS = SimpleNamespace(decode=lambda ids, **_: "".join(PIECES[one] for one in ids))


@given(
    reply=st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=12),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    min_tokens=st.integers(0, 4),
)
def test_a_reply_ends_where_a_stop_string_is_whole(reply: list[int], stops: list[str], min_tokens: int) -> None:
    """At the first token that completes one behind the first `min_tokens` tokens; the text is what comes before it."""
    criterion = StopStrings(TEXTS, [[0, 1]], width=2, stops=stops, min_tokens=min_tokens)
    for length in range(1, len(reply) + 1):
        if criterion(torch.tensor([[0, 1, *reply[:length]]]), None)[0]:
            break
    texts = ["".join(PIECES[one] for one in reply[:length]) for length in range(len(reply) + 1)]
    free = len(texts[min(min_tokens, len(reply))])
    whole = [
        (end, start)
        for stop in stops
        for start in range(len(texts[-1]))
        if texts[-1].startswith(stop, start) and (end := start + len(stop)) > free
    ]
    if not whole:
        assert criterion.found == {}
        return
    num_tokens, text = criterion.found[0]
    end = min(whole)[0]
    assert num_tokens == next(length for length, text in enumerate(texts) if len(text) >= end)
    assert any(text + stop == texts[-1][: len(text + stop)] and len(text + stop) == end for stop in stops)


@given(end_ids=st.sets(st.integers(0, 4)), least=st.integers(0, 3), length=st.integers(0, 4), prompt=st.integers(1, 3))
def test_no_end_token_is_drawn_before_min_tokens(end_ids: set[int], least: int, length: int, prompt: int) -> None:
    ids, scores = torch.zeros(2, prompt + length, dtype=torch.long), torch.ones(2, 5)
    allowed = MinTokens(prompt, least, sorted(end_ids))(ids, scores)
    barred = end_ids if length < least else set()
    assert [{one for one in range(5) if row[one] == -torch.inf} for row in allowed] == [barred, barred]


def test_a_penalty_is_for_what_stands_there_and_not_for_padding() -> None:
    """Of two prompts in one batch the shorter is padded with token 0."""
    prompts, ids = [[1], [1, 2, 3]], torch.tensor([[0, 0, 1, 4, 4], [1, 2, 3, 4, 0]])
    penalties = Penalties(prompts, width=3, repetition=2.0, frequency=0.25, presence=0.5)
    expected = [[1.0, 0.5, 1.0, 1.0, 0.5 - 2 * 0.25 - 0.5], [0.5 - 0.75, 0.5, 0.5, 0.5, 0.5 - 0.75]]
    assert penalties(ids, torch.ones(2, 5)).tolist() == expected
    assert penalties(ids, -torch.ones(2, 5))[0, 1] == -2.0


def test_a_text_is_what_was_generated(tiny_model: Path) -> None:
    """Its spaces before punctuation too, which some tokenizers are set to take away; no half of a character."""
    tokenizer = chat.load_tokenizer(str(tiny_model))
    tokenizer.clean_up_tokenization_spaces = True
    prompt, text = tokenizer("Tom <|assistant|>")["input_ids"], " I do n't , he said . \u00e9"
    ids = tokenizer(text)["input_ids"]
    assert reply_text(tokenizer, prompt, ids) == text
    assert reply_text(tokenizer, prompt, ids[:-1]) == text[:-1]


def test_a_model_that_does_not_tell_its_context_is_refused() -> None:
    config = SimpleNamespace(name_or_path="model")
    with pytest.raises(UserError, match="'model' has no max_position_embeddings"):
        hf._context(SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: config)))
