"""A tiny language model over words that trains in a second on one core: what `scripts/study_collapse.py` retrains.

A feed-forward model of the four words before (Bengio et al. 2003, JMLR 3:1137) with tied embeddings, 31,000 parameters
for 1,000 words. It is a true generative model with tails to lose: trained to convergence on what it sampled itself, a
word that was not drawn is all but gone from the next generation. Weights are trained from scratch each time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

END, UNKNOWN = 0, 1
CONTEXT, WIDTH, HIDDEN = 4, 24, 48
BATCH_SIZE, LEARNING_RATE = 256, 0.01
MAX_WORDS = 48
"""Of one text; half of the questions of GSM8K are longer and are cut."""

Ids = list[int]


class Vocabulary(NamedTuple):
    """Words by number; 0 ends a text, 1 is every word that is not known."""

    words: tuple[str, ...]

    def encode(self, texts: Sequence[Sequence[str]]) -> list[Ids]:
        numbers = {word: number for number, word in enumerate(self.words)}
        return [[numbers.get(word, UNKNOWN) for word in text[:MAX_WORDS]] for text in texts]

    def decode(self, rows: Sequence[Ids]) -> list[list[str]]:
        return [[self.words[one] for one in row] for row in rows]


def vocabulary(texts: Sequence[Sequence[str]], size: int) -> Vocabulary:
    """The `size` - 2 most frequent words."""
    counts = Counter(word for text in texts for word in text[:MAX_WORDS])
    known = sorted(counts, key=lambda word: (-counts[word], word))[: size - 2]
    return Vocabulary(("<end>", "<unknown>", *known))


class Model(NamedTuple):
    """The weights. `logits` maps the words before, (n, CONTEXT), to (n, words)."""

    embeddings: torch.Tensor  # (words, WIDTH), of input and output
    into: torch.Tensor  # (CONTEXT * WIDTH, HIDDEN)
    hidden_bias: torch.Tensor  # (HIDDEN,)
    out: torch.Tensor  # (HIDDEN, WIDTH)
    bias: torch.Tensor  # (words,)

    def logits(self, before: torch.Tensor) -> torch.Tensor:
        hidden = (self.embeddings[before].flatten(1) @ self.into + self.hidden_bias).relu()
        return hidden @ self.out @ self.embeddings.T + self.bias


def train(rows: Sequence[Ids], num_words: int, steps: int, seed: int) -> Model:
    """Adam with a one-cycle learning rate, from random weights; the number of steps is fixed, whatever the data."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    before, after = map(torch.from_numpy, windows(rows))
    shapes = [(num_words, WIDTH), (CONTEXT * WIDTH, HIDDEN), (HIDDEN,), (HIDDEN, WIDTH), (num_words,)]
    scales = [0.1, 1 / math.sqrt(CONTEXT * WIDTH), 0.0, 1 / math.sqrt(HIDDEN), 0.0]
    drawn = [torch.randn(shape, generator=generator) * scale for shape, scale in zip(shapes, scales, strict=True)]
    model = Model(*(one.requires_grad_() for one in drawn))
    optimizer = torch.optim.Adam(list(model), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(len(before), (BATCH_SIZE,), generator=generator)
        loss = torch.nn.functional.cross_entropy(model.logits(before[batch]), after[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def windows(rows: Sequence[Ids]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(the CONTEXT words before each word, the word), the end of each text that is not cut: (n, CONTEXT) and (n,)."""
    ended = [row if len(row) == MAX_WORDS else [*row, END] for row in rows]
    flat = np.concatenate([np.array([END] * CONTEXT + row) for row in ended])
    lengths = np.array([len(row) for row in ended])
    starts = np.concatenate([[0], np.cumsum(lengths + CONTEXT)[:-1]])
    first = np.cumsum(lengths) - lengths
    positions = np.arange(lengths.sum()) + np.repeat(starts - first, lengths)
    return flat[positions[:, None] + np.arange(CONTEXT)], flat[positions + CONTEXT]


def generate(model: Model, num_texts: int, seed: int) -> list[Ids]:
    """Texts sampled at temperature 1."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    before = torch.full((num_texts, CONTEXT), END)
    written = []
    with torch.no_grad():
        for _ in range(MAX_WORDS):
            reached = model.logits(before).softmax(-1).cumsum(-1)
            # A sixth of the time of torch.multinomial, which draws a number for each word of the vocabulary.
            drawn = torch.searchsorted(reached, torch.rand(num_texts, 1, generator=generator))
            written.append(drawn.clamp(max=reached.shape[1] - 1))
            before = torch.cat([before[:, 1:], written[-1]], dim=1)
    rows: list[Ids] = torch.cat(written, dim=1).tolist()
    return [row[: row.index(END)] if END in row else row for row in rows]


def nll(model: Model, rows: Sequence[Ids]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(nats, the word) for each word of `rows` in order, as `windows` has them."""
    import torch

    before, after = map(torch.from_numpy, windows(rows))
    with torch.no_grad():
        logprobs = model.logits(before).log_softmax(-1).gather(1, after[:, None])[:, 0]
    return -logprobs.double().numpy(), after.numpy()
