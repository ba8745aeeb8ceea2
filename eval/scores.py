"""From predictions to `scores.json`: each split's mean with its interval, and paired gains over earlier rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval import stats
from synthloop.errors import UserError
from synthloop.records import Prediction
from synthloop.store import read_rows


def summarise(metric: str, predictions: Sequence[Prediction], confidence: float, seed: int) -> dict[str, Any]:
    """The split's mean score and that of each slice, with n and interval.

    An example counts under the first of these that applies: `errors` (no reply, so left out of n and of the score),
    `truncated` (cut at `max_tokens`; still scored, what it says before the cut may hold the answer), `unparsed` (no
    answer found in it).
    """
    served = [one for one in predictions if one.error is None]
    slices: dict[str, list[Prediction]] = {}
    for one in served:
        if one.slice is not None:
            slices.setdefault(one.slice, []).append(one)
    return {
        "metric": metric,
        **_mean(served, confidence, seed),
        "truncated": sum(one.truncated for one in served),
        "unparsed": sum(one.parsed is None and not one.truncated for one in served),
        "errors": len(predictions) - len(served),
        "slices": {name: _mean(rows, confidence, seed) for name, rows in sorted(slices.items())},
    }


def _mean(predictions: Sequence[Prediction], confidence: float, seed: int) -> dict[str, Any]:
    values = [one.value for one in predictions]
    low, high = stats.mean_interval(values, confidence, seed)
    return {"value": sum(values) / len(values), "n": len(values), "ci_low": low, "ci_high": high}


def compare(old: Path, new: Sequence[Prediction], against_round: int, confidence: float, seed: int) -> dict[str, Any]:
    """The paired gain of `new` over the predictions in the file `old` of an earlier round, on the examples that both
    answered; `left_out` counts the others.

    Raises:
        UserError: the two were not evaluated on the same examples, or answered none in common.
    """
    before = {one.id: one for one in read_rows(old, Prediction)}
    if before.keys() != {one.id for one in new}:
        raise UserError(
            f"{old} was evaluated on other examples ({len(before)}) than this round ({len(new)}), so no paired "
            f"comparison is possible. Redo it with --from {against_round}/eval."
        )
    pairs = [(before[one.id], one) for one in new if one.error is None and before[one.id].error is None]
    if not pairs:
        raise UserError(f"{old}: no example was answered in this round and in round {against_round}.")
    gain = stats.paired_gain([one.value for one, _ in pairs], [one.value for _, one in pairs], confidence, seed)
    return {"against_round": against_round, **gain._asdict(), "left_out": len(new) - len(pairs)}
