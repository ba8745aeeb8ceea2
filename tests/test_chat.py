"""Chat templates of the shapes that models have: how a turn ends, what is learned of it, what is refused."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloop import chat
from synthloop.errors import UserError
from synthloop.records import Message
from tests.shapes import PARTS, SHAPES, Shape, tokenizer_of

USER = Message(role="user", content="2 + 2?")
SYSTEM = Message(role="system", content="Be brief.")


@pytest.mark.parametrize(
    ("name", "learned", "end"),
    [
        ("chatml", "It is 4.<|im_end|>\n", "<|im_end|>"),
        ("chatml, its own eos", "It is 4.<|im_end|>\n", None),
        ("end that is not special", "It is 4.<|im_end|>\n", "<|im_end|>"),
        ("no end", "It is 4.<|endoftext|>", None),
        ("channel", "<|channel|>final<|message|>It is 4.<|return|>", None),
        ("no system", "It is 4.<end_of_turn>\n", "<end_of_turn>"),
        ("ends twice", "It is 4.<|end|>\n<|pad|>", "<|end|>"),
        ("thinks", "<think>\n\n</think>\n\nIt is 4.<|im_end|>\n", None),
    ],
)
def test_what_is_learned_of_a_turn_and_where_it_ends(name: str, learned: str, end: str | None) -> None:
    tokenizer = tokenizer_of(SHAPES[name])
    assert tokenizer.decode(chat.completion_ids(tokenizer, [USER], "It is 4.")) == learned
    assert chat.turn_end(tokenizer) == (end and tokenizer.convert_tokens_to_ids(end))


AROUND = st.sampled_from(["", "\n", " ", "<|a|>", "</b>", "Answer: "])
REPLIES = st.one_of(
    st.sampled_from(["", "  ", "4", "<think>", "end", "Placeholder"]), st.text(alphabet="a4 .\n#é", max_size=12)
)


@settings(max_examples=40)
@given(
    before=AROUND,
    after=st.lists(st.sampled_from(["\n", "<|x|>", "</y>", "</s>", "[/A]", "  "]), max_size=3),
    eos=st.sampled_from(["</s>", "<|x|>", "<|pad|>"]),
    trims=st.booleans(),
    reply=REPLIES,
)
def test_a_learned_turn_holds_one_end_at_which_engines_stop(
    before: str, after: list[str], eos: str, trims: bool, reply: str
) -> None:
    """Whatever a template writes around a reply: what is learned reaches an end, and the reply stands before it."""
    content = "{{ m.content | trim }}" if trims else "{{ m.content }}"
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|a|>{{ m.content }}\n{% else %}"
        + before.replace("\n", "{{ '\\n' }}")
        + content
        + "".join(after).replace("\n", "{{ '\\n' }}")
        + "{% endif %}{% endfor %}"
    )
    tokenizer = made(template, eos)
    ids = chat.completion_ids(tokenizer, [USER], reply)
    ends = chat.end_ids(tokenizer)
    assert tokenizer.eos_token_id in ends
    first = next(place for place, id in enumerate(ids) if id in ends)
    assert (reply.strip() if trims else reply) in tokenizer.decode(ids[:first])
    assert chat.reply_text(tokenizer, ids, ends) == tokenizer.decode(ids[:first], skip_special_tokens=True)


_TOKENIZER: list[Any] = []


def made(template: str, eos: str) -> Any:
    """One tokenizer for all examples, as building one takes a while."""
    if not _TOKENIZER:
        _TOKENIZER.append(tokenizer_of(Shape("", ("<|a|>", "<|x|>", "</s>"), plain=("</b>", "</y>"))))
    (tokenizer,) = _TOKENIZER
    tokenizer.chat_template, tokenizer.eos_token = template, eos
    return tokenizer


def test_a_template_that_closes_no_turn_needs_an_end_token() -> None:
    tokenizer = tokenizer_of(SHAPES["no end"])
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="never learn to stop"):
        chat.completion_ids(tokenizer, [USER], "It is 4.")


def test_a_prompt_and_its_completion_are_what_the_template_renders() -> None:
    for name in ("chatml", "channel", "no system", "dated"):
        tokenizer = tokenizer_of(SHAPES[name])
        turns = [USER, Message(role="assistant", content="It is 4.")]
        whole = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"]
        assert chat.prompt_ids(tokenizer, [USER]) + chat.completion_ids(tokenizer, [USER], "It is 4.") == whole


@pytest.mark.parametrize("name", ["qwen2_5", "llama3", "llama3_2", "gemma3", "phi3", "lfm2", "glm4moe"])
def test_templates_of_known_models(name: str) -> None:
    """TRL's own copies, on a tokenizer that has the tokens they write and another end token."""
    template = (files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    named = tuple(dict.fromkeys(re.findall(r"<[|｜]?[\w▁]+[|｜]?>", template)))
    tokenizer = tokenizer_of(Shape(template, named))
    tokenizer.bos_token = "<|pad|>"  # some templates write it
    ids = chat.completion_ids(tokenizer, [USER], "It is 4.", enable_thinking=False)
    ends = chat.end_ids(tokenizer, enable_thinking=False)
    assert next(id for id in ids if id in ends) == ends[-1]
    assert chat.reply_text(tokenizer, ids, ends).strip() == "It is 4."


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


@pytest.mark.parametrize("completion", ["", " so 4 ", "im_end"])
def test_an_odd_reply_is_closed_once(completion: str) -> None:
    tokenizer = tokenizer_of(SHAPES["chatml"])
    ids = chat.completion_ids(tokenizer, [USER], completion)
    assert ids.count(chat.turn_end(tokenizer)) == 1
    assert tokenizer.eos_token_id not in ids


@pytest.mark.parametrize(
    ("name", "turns", "message"),
    [
        ("no system", [SYSTEM, USER], "refuses the turns system, user: System role not supported.*`task.prompt`"),
        ("no system", [Message(role="assistant", content="Hi"), USER], "refuses the turns assistant, user: Roles must"),
        ("thinks", [Message(role="human", content="2 + 2?")], "drops the human turn of the turns human"),
        ("thinks", [Message(role="developer", content="Be brief."), USER], "drops the developer turn"),
        ("thinks", [SYSTEM, USER, Message(role="tool", content="5"), USER], "drops the tool turn"),
    ],
)
def test_a_turn_that_a_template_refuses_or_drops_is_named(name: str, turns: list[Message], message: str) -> None:
    with pytest.raises(UserError, match=message):
        chat.prompt_text(tokenizer_of(SHAPES[name]), turns)


ROLES = ["system", "user", "assistant", "tool", "human"]


@settings(max_examples=40, deadline=None)
@given(
    known=st.sets(st.sampled_from(ROLES)),
    turns=st.lists(st.tuples(st.sampled_from(ROLES), st.text(alphabet="ab \n<>", max_size=6)), min_size=1, max_size=5),
    trims=st.booleans(),
)
def test_a_prompt_is_refused_if_and_only_if_a_turn_is_dropped(
    known: set[str], turns: list[tuple[str, str]], trims: bool
) -> None:
    """Even a turn whose text stands elsewhere in the prompt, or that says nothing."""
    template = "{% for m in messages if m.role in KNOWN %}<|a|>{{ m.content }}{% endfor %}"
    template = template.replace("KNOWN", str(sorted(known))).replace(
        "content", "content | trim" if trims else "content"
    )
    tokenizer = made(template, "</s>")
    messages = [Message(role=role, content=text) for role, text in turns]
    if any(role not in known for role, _ in turns):
        with pytest.raises(UserError, match="drops the"):
            chat.prompt_text(tokenizer, messages)
    else:
        assert chat.prompt_text(tokenizer, messages) == tokenizer.apply_chat_template(messages, tokenize=False)


def test_a_template_that_reads_no_plain_text_drops_every_turn() -> None:
    with pytest.raises(UserError, match="drops the system and the user turn"):
        chat.prompt_text(tokenizer_of(PARTS), [SYSTEM, USER])


def test_a_switch_of_a_template_is_named_where_it_teaches_another_turn_than_it_asks_for() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<think>{{ '\\n' if enable_thinking | default(true) else '</think>' }}{% endif %}"
    )
    tokenizer = tokenizer_of(Shape(source, ()))
    with pytest.raises(UserError, match="`chat_template_kwargs: {enable_thinking: false}` beside `model`"):
        chat.completion_ids(tokenizer, [USER], "4")
    assert chat.completion_ids(tokenizer, [USER], "4", enable_thinking=False)


def test_a_text_that_a_template_changes_is_not_a_turn_that_it_drops() -> None:
    """Earlier thoughts are taken out and texts are trimmed: so they are at inference."""
    thought = Message(role="assistant", content="<think>\nTwo and two.\n</think>\n\n4")
    text = chat.prompt_text(tokenizer_of(SHAPES["thinks"]), [USER, thought, USER])
    assert "Two and two" not in text
    assert "  2" not in chat.prompt_text(tokenizer_of(SHAPES["no system"]), [Message(role="user", content="  2 + 2? ")])


def test_a_template_that_drops_the_reply_teaches_nothing() -> None:
    silent = Shape("{% for m in messages if m.role == 'user' %}{{ m.content }}<|end|>{% endfor %}", (), "<|end|>")
    tokenizer = tokenizer_of(silent)
    with pytest.raises(UserError, match="drops the assistant's turn"):
        chat.completion_ids(tokenizer, [USER], "4")
    assert chat.end_ids(tokenizer) == [tokenizer.eos_token_id]
