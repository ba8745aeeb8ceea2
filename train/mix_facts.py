"""`mix.json`: what was asked of a mix, what was achieved, and what the user should know of the difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from synthloop.mixing import Mix, MixOverride, bounds
from synthloop.records import Row

SOURCES = ("real", "synthetic", "replay")


def sizes(rows: Sequence[Row], unit: str) -> list[int]:
    """The size of each row in `unit`: its tokens, or 1."""
    return [row.num_tokens if unit == "tokens" else 1 for row in rows]


def describe(
    rows: Sequence[Row],
    real: Sequence[Row],
    synthetic: Sequence[Row],
    policy: Mix,
    *,
    round: int,
    override: MixOverride | None = None,
) -> dict[str, Any]:
    """`mix.json`: asked and achieved side by side. `rows` is the mix, the others what it was made from.

    `real_fraction` and `depth_shares` are shares of tokens; `synthetic_per_real` and `replay_per_real` are in
    `policy.unit` and over the real data before any repetition, as the cap is (None in a mix without real rows).
    `real_loss_share` is the real rows' share of weight x completion tokens, which is what they have of the loss
    (before `train.args.max_length` cuts; None where no completion has a weight).
    """
    parts = {source: [row for row in rows if row.source == source] for source in SOURCES}
    by_source = describe_sources(parts)
    per_real = {name: _per_real(parts[name], real, policy.unit) for name in ("synthetic", "replay")}
    real_tokens = by_source["real"]["tokens"]
    return {
        "policy": policy.policy,
        "asked": policy.model_dump(mode="json"),
        "override": override.model_dump() if override else None,
        "bounds": bounds(policy, round, override)._asdict(),
        "achieved": {
            "synthetic_per_real": per_real["synthetic"] if parts["real"] else None,
            **({"replay_per_real": per_real["replay"]} if policy.replay else {}),
        },
        "real_rows": len(parts["real"]),
        "repeated_rows": max(0, len(parts["real"]) - len(real)),
        "synthetic_rows": len(parts["synthetic"]),
        "real_tokens": real_tokens,
        "synthetic_tokens": by_source["synthetic"]["tokens"],
        "real_fraction": real_tokens / max(1, sum(row.num_tokens for row in rows)),
        "real_fraction_rows": len(parts["real"]) / max(1, len(rows)),
        "real_loss_share": by_source["real"]["loss_share"],
        "by_source": by_source,
        "max_depth": max((row.depth for row in rows), default=0),
        "depth_shares": depth_shares(rows),
        "by_round": by_round(parts["synthetic"], synthetic),
        "dropped": dropped(parts, real, synthetic, policy),
    }


def depth_shares(rows: Sequence[Row]) -> dict[str, float]:
    """Generation depth -> its share of the tokens."""
    tokens: Counter[int] = Counter()
    for row in rows:
        tokens[row.depth] += row.num_tokens
    return {str(depth): tokens[depth] / max(1, tokens.total()) for depth in sorted(tokens)}


def describe_sources(parts: dict[str, list[Row]]) -> dict[str, dict[str, Any]]:
    """Rows, tokens and share of the loss of each source."""
    losses = {source: sum(row.weight * row.completion_tokens for row in part) for source, part in parts.items()}
    total = sum(losses.values())
    return {
        source: {
            "rows": len(part),
            "tokens": sum(row.num_tokens for row in part),
            "loss_share": losses[source] / total if total else None,
        }
        for source, part in parts.items()
    }


def dropped(parts: dict[str, list[Row]], real: Sequence[Row], synthetic: Sequence[Row], policy: Mix) -> dict[str, int]:
    """Rows left out, by why: synthetic ones over the cap and, under `replace`, of older rounds; real ones."""
    if policy.policy != "replace":
        return {"over_cap": len(synthetic) - len(parts["synthetic"])}
    num_offered = len(newest(synthetic))
    return {
        "over_cap": num_offered - len(parts["synthetic"]),
        "older_rounds": len(synthetic) - num_offered,
        "real": max(0, len(real) - len(parts["real"])),
    }


def newest(synthetic: Sequence[Row]) -> list[Row]:
    """The rows of the newest round that has any."""
    last = max((row.round for row in synthetic), default=0)
    return [row for row in synthetic if row.round == last]


def _per_real(part: Sequence[Row], real: Sequence[Row], unit: str) -> float:
    return sum(sizes(part, unit)) / max(1, sum(sizes(real, unit)))


def by_round(kept: Sequence[Row], available: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Synthetic rows available and kept, and tokens kept, of each generation round."""
    return {
        str(round): {
            "available": sum(row.round == round for row in available),
            "kept": sum(row.round == round for row in kept),
            "tokens": sum(row.num_tokens for row in kept if row.round == round),
        }
        for round in sorted({row.round for row in available})
    }


def notices(facts: dict[str, Any], policy: Mix) -> list[str]:
    """What the user should know of a mix that is not what the settings suggest."""
    return [one for one in (_replaced(facts, policy), *_short(facts, policy), *_changed(facts, policy)) if one]


def _replaced(facts: dict[str, Any], policy: Mix) -> str | None:
    if policy.policy != "replace":
        return None
    last = max(facts["by_round"], key=int)
    return (
        f"mix.policy is replace: {facts['dropped']['real']} real rows and {facts['dropped']['older_rounds']} synthetic "
        f"ones of earlier rounds are left out, the student trains on those of round {last}. This makes models collapse "
        "and is for studies of it."
    )


def _short(facts: dict[str, Any], policy: Mix) -> list[str]:
    """Shortfalls: of synthetic data, and of replayed rows."""
    told = []
    asked, achieved = facts["bounds"]["synthetic_per_real"], facts["achieved"]["synthetic_per_real"]
    is_short = policy.policy in ("fixed", "schedule") and facts["dropped"]["over_cap"] == 0
    if is_short and achieved < round(asked, 6):
        told.append(
            f"too few synthetic rows: asked {asked:g} per real in {policy.unit}, achieved {achieved:.3g} with all "
            f"{facts['synthetic_rows']} there are."
        )
    elif facts["synthetic_rows"] == 0 and asked != 0:
        told.append("no synthetic row in this round's mix: the student trains on real rows alone.")
    replayed = facts["achieved"].get("replay_per_real")
    if policy.replay_ratio is not None and replayed < round(policy.replay_ratio, 6):
        rows = facts["by_source"]["replay"]["rows"]
        if rows == facts.get("replay", {}).get("available", rows):
            told.append(
                f"too few rows in mix.replay: asked {policy.replay_ratio:g} per real in {policy.unit}, achieved "
                f"{replayed:.3g} with all {rows} there are."
            )
    return told


def _changed(facts: dict[str, Any], policy: Mix) -> list[str]:
    """What the loop overrode, what `num_rows` could not cut, what of `replay` is held out."""
    told = []
    if facts["override"]:
        asked = {key: value for key, value in facts["override"].items() if key != "reason" and value is not None}
        told.append(
            f"overridden for this round: {', '.join(f'{key}={value:g}' for key, value in asked.items())} "
            f"({facts['override']['reason']})."
        )
    total = sum(one["rows"] for one in facts["by_source"].values())
    if policy.num_rows is not None and total > policy.num_rows:
        told.append(f"mix.num_rows is {policy.num_rows}, the mix has {total} rows: num_rows adds rows, never cuts.")
    if facts.get("replay", {}).get("held_out"):
        told.append(
            f"{facts['replay']['held_out']} rows of {policy.replay} stand in probe, gate or test and are left out."
        )
    return told
