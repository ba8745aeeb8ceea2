"""A folder's tokenizer read without transformers is the one that transformers reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthloop import chat
from synthloop.folder_tokenizer import read_tokenizer
from synthloop.records import Message
from tests.shapes import SHAPES, tokenizer_of

TURNS = [
    Message(role="user", content="2 + 2?"),
    Message(role="assistant", content="4"),
    Message(role="user", content="é"),
]


@pytest.mark.parametrize("name", SHAPES)
def test_it_makes_the_same_ids_and_texts(name: str, tmp_path: Path) -> None:
    tokenizer_of(SHAPES[name]).save_pretrained(tmp_path)
    whole, light = chat.load_tokenizer(str(tmp_path)), read_tokenizer(tmp_path)
    assert light is not None
    for completion in ("It is 4.", "", "  4 "):
        ids = chat.completion_ids(whole, TURNS, completion)
        assert chat.completion_ids(light, TURNS, completion) == ids
        assert chat.reply_text(light, ids, chat.end_ids(light)) == chat.reply_text(whole, ids, chat.end_ids(whole))
    assert chat.prompt_ids(light, TURNS) == chat.prompt_ids(whole, TURNS)
    assert chat.turn_end(light) == chat.turn_end(whole)


def test_tokens_beyond_a_vocabulary_are_added_ones_or_the_last_proper_one(tmp_path: Path) -> None:
    tokenizer_of(SHAPES["chatml"]).save_pretrained(tmp_path)
    light = read_tokenizer(tmp_path)
    assert light is not None
    assert light.beyond(322) == {}
    assert light.beyond(321) == {321: "<|im_end|>"}
    assert set(light.beyond(300)) == {319, 320, 321}
