"""A random tiny Llama with a byte-level BPE tokenizer: real enough for vLLM, TRL and PEFT, built in a second.

    from tests.tiny import build_tiny_model
    build_tiny_model(tmp_path / "model")

It answers gibberish; tests look at how text travels, not at what it says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SPECIAL_TOKENS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
# What the merges are learned from: enough for words of word problems to be a few tokens each.
CORPUS = (
    "Tom has 3 apples and buys 4 more. How many apples does he have now? Tom has 3 + 4 = 7 apples. #### 7",
    "A shop sells 12 pens a day. How many pens does it sell in 5 days? It sells 12 * 5 = 60 pens. #### 60",
    'Write a new problem like this one. Answer in JSON: {"problem": "...", "answer": 1}',
)


def build_tokenizer(vocab_size: int = 384) -> Any:
    """A byte-level BPE `PreTrainedTokenizerFast`: every text is encodable, digits are single tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_tiny_model(
    folder: Path,
    *,
    seed: int = 0,
    vocab_size: int = 384,
    hidden_size: int = 64,
    num_layers: int = 2,
    head_dim: int = 32,
    max_length: int = 512,
) -> Path:
    """Write a random Llama (float32) and its tokenizer into `folder` and return it.

    `head_dim` is 32 because the attention of vLLM's CPU build fails at 16. The weights are a function of `seed` alone,
    scaled up so that greedy replies depend visibly on the prompt.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = build_tokenizer(vocab_size)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // head_dim,
        num_key_value_heads=hidden_size // head_dim,
        head_dim=head_dim,
        max_position_embeddings=max_length,
        initializer_range=0.1,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config.do_sample = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
