"""The collapse guard: what the loop does about a verdict of `collapse.json`.

| `action` | on 'warn'                                            | on 'stop'                                       |
|----------|------------------------------------------------------|-------------------------------------------------|
| none     | it is told                                           | it is told                                      |
| stop     | it is told                                           | the round is not accepted, the run ends, exit 3 |
| rollback | it is told                                           | the round is not accepted; the next time: stop  |
| shrink   | the synthetic cap is halved                          | that, and as rollback                           |
| replay   | real rows are repeated up to 1/2, 3/4 ... of the mix | that, and as rollback                           |
| widen    | seeds come from all of train, not from failures      | that, and as rollback                           |

What was taken stays in force until the end of the run. Less synthetic and more real data is what the literature has
against collapse (Gerstgrasser et al. 2024, arXiv:2404.01413; Alemohammad et al. 2023, arXiv:2307.01850); the steps are
chosen, not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from synthloop.config import Config

MIX_MEASURES = ("max_synthetic_ratio", "min_real_fraction")
SEED_MEASURES = ("seeds",)


class Reaction(NamedTuple):
    """What follows from a verdict.

    `measures` are the settings in force from the next round on; `told` is the sentence for people, None where there is
    nothing to tell; `stop` says why the run ends, None where it goes on.
    """

    blocks: bool
    stop: str | None
    measures: dict[str, Any]
    told: str | None


def react(config: Config, collapse: dict[str, Any] | None, before: Sequence[dict[str, Any]]) -> Reaction:
    """The reaction to the round's `collapse.json` (None where it was not measured), given the earlier `round.json`s."""
    measures: dict[str, Any] = dict((before[-1].get("measures") or {}) if before else {})
    verdict = collapse["verdict"] if collapse else None
    if collapse is None or verdict not in ("warn", "stop"):
        return Reaction(False, None, measures, None)
    action, why = config.collapse.action, f"collapse verdict '{verdict}': {collapse['reason']}"
    if action == "none":
        return Reaction(False, None, measures, f"{why} (collapse.action is none: nothing is done)")
    taken = _tightened(config, action, measures, round=len(before))
    told = f"{why}; {_describe(taken)}" if taken != measures else why
    if verdict == "warn":
        return Reaction(False, None, taken, told)
    again = any(one.get("collapse") == "stop" for one in before)
    stop = f"collapse: {collapse['reason']}" if action == "stop" or again else None
    return Reaction(True, stop, taken, f"{told}; the round is not accepted")


def _tightened(config: Config, action: str, measures: dict[str, Any], round: int) -> dict[str, Any]:
    if action == "shrink":
        asked = config.mix.ratio(round)  # None where the policy has no cap: the halving then starts from 1
        return {
            **measures,
            "max_synthetic_ratio": measures.get("max_synthetic_ratio", 1.0 if asked is None else asked) / 2,
        }
    if action == "replay":
        return {**measures, "min_real_fraction": (1 + measures.get("min_real_fraction", 0.0)) / 2}
    if action == "widen":
        return {**measures, "seeds": "random"}
    return measures


def _describe(measures: dict[str, Any]) -> str:
    return "from the next round on " + ", ".join(f"{name} is {value}" for name, value in measures.items())


def overrides(measures: dict[str, Any], names: Sequence[str], reason: str) -> dict[str, Any] | None:
    """The contents of a round's override file for those of `measures` that `names` lists; None where there are none."""
    mine = {name: measures[name] for name in names if name in measures}
    return {**mine, "reason": reason} if mine else None
