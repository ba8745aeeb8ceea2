"""Texts to points: mean-pooled last hidden states of a language model or an encoder, of length 1.

    embed(["Tom has 3 apples.", "Mia has 4 pens."], "quickstart/student") -> float32 (2, 128)

The mean over a text's own tokens is what Sentence-BERT found best of the simple poolings (Reimers and Gurevych 2019,
arXiv:1908.10084, table 6). The dot product of two rows is their cosine similarity.

Limits: a model that was not trained for similarity puts all texts into a narrow cone (Ethayarajh 2019,
arXiv:1909.00512): compare its similarities with one another, and not with thresholds chosen for another model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthloop.errors import UserError

log = logging.getLogger("synthloop.embeddings")


def embed(
    texts: Sequence[str],
    model: str,
    *,
    revision: str | None = None,
    max_length: int | None = None,
    batch_tokens: int = 8_192,
) -> NDArray[np.float32]:
    """One row a text, `(texts, width)` float32, in the order given, on the GPU where there is one.

    The weights are read in float32 and texts go through in batches of like length, the longest first, so that the same
    call gives the same rows. Another order or other neighbours change the last digits only (padding is masked). Texts
    longer than the model's context are cut, with a counted warning; a text without a token is embedded as the token
    that ends a text.

    Args:
        model: folder or hub id of a causal language model or an encoder.
        max_length: tokens a text, at most; the model's own limit by default.
        batch_tokens: tokens a batch, padding included; bounds the memory.

    Raises:
        UserError: the model or its tokenizer can't be loaded.
    """
    import torch

    tokenizer, network = _load(model, revision)
    ids = _tokenise(tokenizer, texts, _context(tokenizer, network, max_length), model)
    rows = np.zeros((len(texts), network.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for batch in _batches([len(one) for one in ids], batch_tokens):
            rows[batch] = _pooled(network, [ids[i] for i in batch])
    return rows


def _load(model: str, revision: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        network = AutoModel.from_pretrained(model, revision=revision, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"No model for embeddings could be loaded from '{model}': {str(error).splitlines()[0]}\n"
            "Expected a folder or hub id of a causal language model or an encoder, with its tokenizer."
        ) from error
    if network.config.is_encoder_decoder:
        raise UserError(f"'{model}' is an encoder-decoder; embeddings need a causal language model or an encoder.")
    return tokenizer, network.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _context(tokenizer: Any, network: Any, max_length: int | None) -> int:
    """The smallest of what is asked, what the model has positions for and what the tokenizer states."""
    # RoBERTa counts two positions that no token gets; its tokenizer has the right number. Others state 1e30.
    limits = (max_length, getattr(network.config, "max_position_embeddings", None), tokenizer.model_max_length)
    return min(int(one) for one in limits if one is not None)


def _tokenise(tokenizer: Any, texts: Sequence[str], context: int, model: str) -> list[list[int]]:
    """Token ids of each text, at least one and at most `context`, special tokens as the tokenizer adds them."""
    if not texts:
        return []
    lengths = [len(one) for one in tokenizer(list(texts), verbose=False)["input_ids"]]
    if num_cut := sum(length > context for length in lengths):
        log.warning("%d of %d texts are longer than the %d tokens of %s", num_cut, len(texts), context, model)
    ids = tokenizer(list(texts), truncation=True, max_length=context)["input_ids"]
    ends = [one for one in (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id) if one is not None]
    return [one or ends[:1] or [0] for one in ids]


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Positions of texts of like length, the longest first: what does not fit the memory fails at once."""
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        # The first of a batch is its longest, to which the others are padded.
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def _pooled(network: Any, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """`(batch, width)`, L2-normalised. Padding stands on the right, where no causal token looks, and is masked."""
    import torch

    longest = max(map(len, ids))
    padded = torch.tensor([[*one, *[0] * (longest - len(one))] for one in ids], device=network.device)
    mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in ids], device=network.device)
    states = network(input_ids=padded, attention_mask=mask).last_hidden_state  # (batch, seq, width)
    means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    result: NDArray[np.float32] = torch.nn.functional.normalize(means, dim=-1).float().cpu().numpy()
    return result
