"""Chat templates of models people train, from TRL's own copies: a turn that ends, a turn that is refused."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from synthloop import chat
from synthloop.errors import UserError
from synthloop.records import Message

USER = Message(role="user", content="2 + 2?")


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    """Gives the tiny model's tokenizer another template."""

    def make(name: str) -> Any:
        loaded = chat.load_tokenizer(str(tiny_model))
        loaded.bos_token = loaded.bos_token or loaded.eos_token  # some templates write it
        loaded.chat_template = (files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
        return loaded

    return make


def test_a_template_that_closes_no_turn_is_given_the_end_token(tokenizer: Any) -> None:
    glm = tokenizer("glm4moe")
    ids = chat.completion_ids(glm, [USER], "It is 4.", enable_thinking=False)
    assert ids[-1] == glm.eos_token_id
    assert ids.count(glm.eos_token_id) == 1
    glm.eos_token = None
    with pytest.raises(UserError, match="never learn to stop"):
        chat.completion_ids(glm, [USER], "It is 4.", enable_thinking=False)


@pytest.mark.parametrize("name", ["qwen2_5", "llama3", "gemma3", "phi3", "lfm2"])
def test_a_template_that_closes_its_turn_is_left_alone(tokenizer: Any, name: str) -> None:
    loaded = tokenizer(name)
    turns = [USER, Message(role="assistant", content="It is 4.")]
    whole = loaded.apply_chat_template(turns, tokenize=False)
    prompt = chat.prompt_text(loaded, [USER])
    assert (
        chat.completion_ids(loaded, [USER], "It is 4.")
        == loaded(whole[len(prompt) :], add_special_tokens=False)["input_ids"]
    )


def test_a_template_that_refuses_a_turn_says_so_and_what_to_do(tokenizer: Any) -> None:
    turns = [Message(role="system", content="Be brief."), USER]
    with pytest.raises(UserError, match="refuses the turns system, user.*`task.prompt`"):
        chat.prompt_text(tokenizer("gemma"), turns)
