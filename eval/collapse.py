"""The first signs of model collapse, measured each round on the same frozen prompts and the same real text.

| signal            | what                                                                                     |
|-------------------|------------------------------------------------------------------------------------------|
| nll               | nats a token of the real completions of `gate`, given their prompts: fit                   |
| entropy           | unigram entropy (nats) of what the student writes, at a fixed budget of words: diversity   |
| distinct_2        | share of distinct word pairs in it, at the same budget: diversity                          |
| mean_length       | its mean length in tokens                                                                  |
| truncated_share   | share of it cut at `collapse.sampling.max_tokens`                                          |
| real_fraction     | share of real tokens in the round's training mix (None for the untouched student)          |
| max_depth         | generation depth of the deepest training row (real = 0)                                    |

Fit and diversity are two channels because each alone is blind: a student may fit real text ever worse while writing
varied nonsense, or lose the tails of what it writes at an unchanged loss (Shumailov et al. 2024, Nature 631:755).

The student writes one sampled reply to each of `collapse.num_prompts` prompts of `gate`, drawn once by a seeded hash,
each with its own seed, the same in every round: rounds differ by the student alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from eval import diversity
from eval.student import Student
from synthloop import chat
from synthloop.config import Collapse
from synthloop.randomness import derive_seed
from synthloop.records import Completion, Example, Request

log = logging.getLogger("synthloop.eval")

WORDS_PER_PROMPT = 4
"""The word budget is this many a prompt; chosen, not measured: short enough for one-line answers to reach it."""

UNCALIBRATED = (
    "no control retrains have measured how far these signals move from run to run, so no level or trend of them can be "
    "told from noise yet"
)


class Observation(NamedTuple):
    """What was seen of one round: all that a signal may look at."""

    nll_sum: float | None
    nll_tokens: int
    replies: Sequence[Completion]
    budget_words: int
    mix: dict[str, Any] | None


def _nll(seen: Observation) -> float | None:
    return seen.nll_sum / seen.nll_tokens if seen.nll_sum is not None and seen.nll_tokens else None


def _entropy(seen: Observation) -> float | None:
    return diversity.unigram_entropy(_pool(seen)[0], seen.budget_words)


def _distinct_2(seen: Observation) -> float | None:
    return diversity.distinct_share(_pool(seen)[1], seen.budget_words)


def _pool(seen: Observation) -> tuple[list[str], list[tuple[str, str]]]:
    return diversity.pool([reply.text for reply in seen.replies])


def _mean_length(seen: Observation) -> float | None:
    return _mean([reply.completion_tokens for reply in seen.replies])


def _truncated_share(seen: Observation) -> float | None:
    return _mean([float(reply.truncated) for reply in seen.replies])


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _real_fraction(seen: Observation) -> float | None:
    return None if seen.mix is None else float(seen.mix["real_fraction"])


def _max_depth(seen: Observation) -> float | None:
    return None if seen.mix is None else float(seen.mix["max_depth"])


SIGNALS: dict[str, Callable[[Observation], float | None]] = {
    "nll": _nll,
    "entropy": _entropy,
    "distinct_2": _distinct_2,
    "mean_length": _mean_length,
    "truncated_share": _truncated_share,
    "real_fraction": _real_fraction,
    "max_depth": _max_depth,
}


def observe(student: Student, cfg: Collapse, examples: Sequence[Example], mix: dict[str, Any] | None) -> Observation:
    """Ask the student for everything the signals need. `examples` are those of `gate`."""
    nll_sum, nll_tokens = real_text_nll(student, examples)
    frozen = frozen_prompts(examples, cfg.num_prompts, student.seed)
    if len(frozen) < cfg.num_prompts:
        log.warning("gate has %d examples, fewer than collapse.num_prompts=%d", len(frozen), cfg.num_prompts)
    requests = [
        Request(
            id=one.id,
            role="student",
            messages=one.messages,
            sampling={"seed": derive_seed(student.seed, "collapse", one.id), **cfg.sampling},
        )
        for one in frozen
    ]
    replies = [reply for reply in student.ask(requests, "collapse") if reply.finish_reason != "error"]
    return Observation(nll_sum, nll_tokens, replies, WORDS_PER_PROMPT * len(frozen), mix)


def frozen_prompts(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """`count` of `examples`, drawn by a seeded hash of their ids: the same whatever their order."""
    return sorted(examples, key=lambda one: (derive_seed(seed, "frozen", one.id), one.id))[:count]


def real_text_nll(student: Student, examples: Sequence[Example]) -> tuple[float | None, int]:
    """(nats, tokens): the negative log-likelihood of the completions, end of turn included, given their prompts.

    (None, 0) where the engine gives no log-probabilities of prompts. Conversations longer than the context are left
    out, with a counted warning.
    """
    cfg = student.config
    tokenizer = chat.load_tokenizer(cfg.tokenizer or cfg.model, cfg.revision)
    starts, requests = [], []
    for one in examples:
        prompt = chat.prompt_ids(tokenizer, one.messages, **cfg.chat_template_kwargs)
        completion = chat.completion_ids(tokenizer, one.messages, one.completion, **cfg.chat_template_kwargs)
        starts.append(len(prompt))
        # One token must be generated; 0 asks for the log-probability of each prompt token and no alternatives.
        sampling = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        ids = (*prompt, *completion)
        requests.append(Request(id=one.id, role="student", prompt_token_ids=ids, sampling=sampling))
    replies = student.ask(requests, "likelihood")
    total, tokens, refused = 0.0, 0, 0
    for start, reply in zip(starts, replies, strict=True):
        if reply.finish_reason == "error":
            refused += 1
        elif reply.prompt_logprobs is None:
            log.warning("this engine gives no log-probabilities of prompts: collapse/nll is not measured")
            return None, 0
        else:
            scored = [one for one in reply.prompt_logprobs[start:] if one is not None]
            total -= math.fsum(scored)
            tokens += len(scored)
    if refused:
        log.warning("WARNING: collapse/nll leaves out %d of %d texts longer than the context", refused, len(replies))
    return total, tokens


def verdict(seen: Observation, baseline: dict[str, float | None] | None) -> dict[str, Any]:
    """The contents of `collapse.json`. `baseline` holds the signals of round 0, None in round 0 itself."""
    signals = {name: measure(seen) for name, measure in SIGNALS.items()}
    words = len(_pool(seen)[0])
    return {
        "verdict": "uncalibrated",
        "reason": UNCALIBRATED,
        "signals": signals,
        "baseline": signals if baseline is None else baseline,
        "measured_on": {
            "nll_tokens": seen.nll_tokens,
            "prompts": len(seen.replies),
            "words": words,
            "budget_words": seen.budget_words,
            "budget_reached": words >= seen.budget_words,
        },
    }
