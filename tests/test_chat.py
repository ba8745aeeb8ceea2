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


def test_no_space_is_put_before_a_reply() -> None:
    """SentencePiece's kind of tokenizer, which puts one before what it is given."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((one, -2.0) for one in "▁[]4xNST/IUser2+?"), ("▁4", -1.0)]
    unigram = Tokenizer(models.Unigram(pieces, unk_id=0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=unigram, eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}{{ m.content }}</s>"
        "{% endif %}{% endfor %}"
    )
    ids = chat.completion_ids(tokenizer, [USER], "4")
    assert tokenizer.convert_ids_to_tokens(ids) == ["4", "</s>"]
    whole = tokenizer("[INST]2 + 2?[/INST]4</s>", add_special_tokens=False)["input_ids"]
    assert chat.prompt_ids(tokenizer, [USER]) + ids == whole


@pytest.mark.parametrize("completion", ["", " so 4 "])
def test_an_odd_reply_is_closed_once(tokenizer: Any, completion: str) -> None:
    ids = chat.completion_ids(tokenizer("qwen2_5"), [USER], completion)
    assert tokenizer("qwen2_5").decode(ids).count("<|im_end|>") == 1


def test_a_template_that_refuses_a_turn_says_so_and_what_to_do(tokenizer: Any) -> None:
    turns = [Message(role="system", content="Be brief."), USER]
    with pytest.raises(UserError, match="refuses the turns system, user.*`task.prompt`"):
        chat.prompt_text(tokenizer("gemma"), turns)
