"""What is looked at in each round for signs of collapse, and which way each of it goes then.

| signal                                  | what                                                                       |
|-----------------------------------------|----------------------------------------------------------------------------|
| nll                                     | nats a token of the real completions of `gate`, given their prompts: fit   |
| nll_rare                                | the same over tokens that are rare in the real train completions           |
| accuracy                                | mean score on `gate`                                                       |
| worst_slice_accuracy                    | of the worst slice of `MIN_SLICE` examples or more                         |
| rare_slice_accuracy                     | of the rarest slices of `gate` together: recall where slices are classes   |
| entropy ... vendi                       | of what the student writes: `eval/diversity.py`. None where it wrote less  |
|                                         | than the budget of words, as rounds of other budgets are not comparable    |
| refusal_share                           | share of it that is empty or opens with a refusal                          |
| pass_at_1, pass_at_k                    | frozen prompts one sample solves, on average; at least one of k samples    |
| pass_gap                                | pass_at_k - pass_at_1: what sampling finds beyond one answer. Not tested:  |
|                                         | it closes where the student learns, too; pass_at_k does not fall then      |
| data_entropy ... data_vendi             | diversity of the round's kept synthetic rows, prompts included             |
| mean_length                             | mean length of what the student writes, in tokens                          |
| truncated_share                         | share of it cut at `collapse.sampling.max_tokens`                          |
| data_mean_length                        | mean length of the kept synthetic rows, in words                           |
| real_fraction                           | share of real tokens in the round's training mix (None without one)        |
| real_loss_share                         | share of real rows in the weighted loss                                    |
| max_depth, depth_share_0, _1 ...        | deepest generation of the training rows, and each one's share (real = 0)   |

Those of the mix are causes, not signs: they are reported and never tested. Nor are lengths, and what is cut for them:
replies that get longer or shorter are as varied as before, and a student may learn either. The likelihood is of the
same real text in every round, so no reply's length is in it; but a student that learns to end elsewhere than people do
fits one token of each text less. "Rare" is `diversity.RARE_SHARE` throughout.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from eval import diversity
from eval.diversity import Reference, Sample
from eval.trend import Signal
from synthloop.records import Completion

MIN_SLICE = 10
"""Slices of fewer examples can't be the worst one: chance would choose it (chosen, not measured)."""

_REFUSAL = re.compile(
    r"\W*((I'm|I am) (sorry|unable|not able)|Sorry,|I apologi[sz]e|I (cannot|can't|can not|won't)|As an AI|"
    r"As a language model|Unfortunately, I)",
    re.IGNORECASE,
)
"""How English assistants open a refusal. Other languages and later refusals are missed."""


class Likelihood(NamedTuple):
    """Negative log-likelihood of real tokens, in nats: of all, and of the rare ones."""

    nats: float
    tokens: int
    rare_nats: float
    rare_tokens: int


class Observation(NamedTuple):
    """What was seen of one round: all that a signal may look at.

    `scores` is the entry of `gate` in `eval/scores.json`. `written` are the words of `replies` and `pool` those of the
    round's kept synthetic rows, each with the real text it is compared with; `pool` is None where there is none.
    `passes` has (right, samples) of each frozen prompt, and is empty where one sample is taken of each.
    """

    likelihood: Likelihood | None
    scores: dict[str, Any]
    replies: Sequence[Completion]
    written: Sample
    real: Reference
    pool: Sample | None
    real_pool: Reference
    mix: dict[str, Any] | None
    passes: Sequence[tuple[int, int]] = ()


def _nll(seen: Observation) -> float | None:
    one = seen.likelihood
    return one.nats / one.tokens if one and one.tokens else None


def _nll_rare(seen: Observation) -> float | None:
    one = seen.likelihood
    return one.rare_nats / one.rare_tokens if one and one.rare_tokens else None


def _accuracy(seen: Observation) -> float | None:
    return float(seen.scores["value"])


def _worst_slice_accuracy(seen: Observation) -> float | None:
    values = [one["value"] for one in seen.scores["slices"].values() if one["n"] >= MIN_SLICE]
    return min(values, default=None)


def _rare_slice_accuracy(seen: Observation) -> float | None:
    slices = sorted(seen.scores["slices"].items(), key=lambda item: (item[1]["n"], item[0]))
    total, correct, chosen = sum(one["n"] for _, one in slices), 0.0, 0
    for _, one in slices:
        if chosen and chosen + one["n"] > diversity.RARE_SHARE * total:
            break
        chosen += one["n"]
        correct += one["n"] * one["value"]
    return correct / chosen if chosen else None


def _mean_length(seen: Observation) -> float | None:
    return _mean([reply.completion_tokens for reply in seen.replies])


def _truncated_share(seen: Observation) -> float | None:
    return _mean([float(reply.truncated) for reply in seen.replies])


def _refusal_share(seen: Observation) -> float | None:
    return _mean([float(is_refusal(reply.text)) for reply in seen.replies])


def is_refusal(text: str) -> bool:
    return not text.strip() or _REFUSAL.match(text) is not None


def _pass_at_1(seen: Observation) -> float | None:
    return _mean([right / samples for right, samples in seen.passes])


def _pass_at_k(seen: Observation) -> float | None:
    """With as many samples as k the unbiased estimate is the share with a right one (Chen et al. 2021,
    arXiv:2107.03374)."""
    return _mean([float(right > 0) for right, _ in seen.passes])


def _pass_gap(seen: Observation) -> float | None:
    return _mean([float(right > 0) - right / samples for right, samples in seen.passes])


def _data_mean_length(seen: Observation) -> float | None:
    return _mean([len(text) for text in seen.pool.texts]) if seen.pool else None


def _real_fraction(seen: Observation) -> float | None:
    return None if seen.mix is None else float(seen.mix["real_fraction"])


def _real_loss_share(seen: Observation) -> float | None:
    share = (seen.mix or {}).get("real_loss_share")
    return None if share is None else float(share)


def _max_depth(seen: Observation) -> float | None:
    return None if seen.mix is None else float(seen.mix["max_depth"])


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


SIGNALS: dict[str, Callable[[Observation], float | None]] = {
    "nll": _nll,
    "nll_rare": _nll_rare,
    "accuracy": _accuracy,
    "worst_slice_accuracy": _worst_slice_accuracy,
    "rare_slice_accuracy": _rare_slice_accuracy,
    "mean_length": _mean_length,
    "truncated_share": _truncated_share,
    "refusal_share": _refusal_share,
    "pass_at_1": _pass_at_1,
    "pass_at_k": _pass_at_k,
    "pass_gap": _pass_gap,
    "data_mean_length": _data_mean_length,
    "real_fraction": _real_fraction,
    "real_loss_share": _real_loss_share,
    "max_depth": _max_depth,
}


WRITTEN: dict[str, Signal] = {
    "entropy": Signal("diversity", "down", assumed=0.02),
    "distinct_2": Signal("diversity", "down", assumed=0.03),
    "compression_ratio": Signal("diversity", "up", assumed=0.05),
    "js_to_real": Signal("diversity", "up", unit=1.0, assumed=0.02),
    "rare_type_coverage": Signal("diversity", "down", assumed=0.15),
    "vendi": Signal("diversity", "down", assumed=0.2),
}
"""Signals that are measured of any texts; the spreads assumed are explained in `trends`."""


def measure(seen: Observation) -> dict[str, float | None]:
    """Every signal of the round by its name; None where it can't be measured."""
    data = measure_diversity(seen.pool, seen.real_pool)
    depths = (seen.mix or {}).get("depth_shares", {})
    return {
        **{name: signal(seen) for name, signal in SIGNALS.items()},
        **measure_diversity(seen.written, seen.real),
        **{f"data_{name}": value for name, value in data.items()},
        **{f"depth_share_{depth}": float(share) for depth, share in depths.items()},
    }


def measure_diversity(texts: Sample | None, real: Reference) -> Mapping[str, float | None]:
    """The measures of `eval/diversity.py`; None where there are fewer texts or words than the budget."""
    return diversity.profile(texts, real) if texts and texts.is_reached else dict.fromkeys(diversity.MEASURES)


def trends(num_texts: int) -> dict[str, Signal]:
    """The signals that are tested for a trend. A share of `num_texts` texts moves by one text at the least.

    The spreads assumed without controls are two to four times those of real-only retrains in
    `scripts/study_collapse.py`, which looks at more text than a loop does; for scores, that of a share of 64.
    """
    share = Signal("fit", "down", unit=1.0, resolution=1 / num_texts, assumed=0.06)
    found = {
        "nll": Signal("fit", "up", assumed=0.02),
        "nll_rare": Signal("fit", "up", assumed=0.03),
        **dict.fromkeys(("accuracy", "worst_slice_accuracy", "rare_slice_accuracy"), share),
    }
    for prefix in ("", "data_"):
        found |= {prefix + name: one for name, one in WRITTEN.items()}
    refusals = share._replace(channel="diversity", worse="up")
    return found | {"refusal_share": refusals, "pass_at_k": share._replace(channel="diversity")}
