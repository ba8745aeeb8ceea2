"""Mix real, synthetic and replayed rows into what the student trains on.

    python -m train.mix --run runs/quickstart --round 2

Every real row of the `train` split is kept (save under `mix.policy: replace`, for studies). The verified candidates of
rounds 1..N join it, as many as the policy says (`synthloop/mixing.py`, docs/mix.md), counted in tokens (prompt +
completion, as the student sees them) or in rows. Writes `train.jsonl` (`Row`) and `mix.json` (what was asked, what was
achieved). Where the loop has left `mix_override.json` in the round's folder, its tighter bounds hold.

Which candidates are kept when there are more than the cap: rounds share the budget equally (what a round leaves unused
goes to the others) and within a round the order is a seeded hash of the candidate's id. Not newest first, because every
round trains from the base model: what round 1 taught is only in its rows, and dropping them would reopen the failures
they closed. Accumulating real and synthetic data, not replacing either, is also what keeps a loop from collapsing
(Gerstgrasser et al. 2024, arXiv:2404.01413). The hash does not depend on the round, so two rounds keep nested subsets
of the same candidates.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthloop.child import open_run, run_child, stage_parser
from synthloop.errors import UserError
from synthloop.mixing import Mix, MixOverride, bounds
from synthloop.randomness import derive_seed
from synthloop.records import Row
from synthloop.store import Run, read_json, write_json, write_rows
from train.mix_facts import describe, newest, notices, sizes
from train.replay import Replay
from train.sources import read_sources

log = logging.getLogger("synthloop.mix")


def mix_rows(
    real: Sequence[Row],
    synthetic: Sequence[Row],
    policy: Mix,
    seed: int,
    round: int,
    *,
    replay: Sequence[Row] = (),
    override: MixOverride | None = None,
) -> list[Row]:
    """The rows of round `round`, in training order, each with its `num_tokens` already set.

    A function of its arguments alone: the order of `real`, `synthetic` and `replay` does not matter. Shares of `replay`
    and of `synthetic` are of the real data as given, before any of it is repeated.
    """
    bound, unit = bounds(policy, round, override), policy.unit
    is_replaced = policy.policy == "replace"
    per_real = math.inf if bound.synthetic_per_real is None else bound.synthetic_per_real
    kept = select(newest(synthetic) if is_replaced else synthetic, _budget(real, per_real, policy), unit, seed)
    kept += select(replay, _budget(real, policy.replay_ratio or 0, policy), unit, seed)
    num_real = 0 if is_replaced else max((policy.num_rows or 0) - len(kept), len(real))
    num_real = max(num_real, rows_for_share(real, bound.min_real_fraction, sum(sizes(kept, unit)), unit, seed))
    return in_order([*repeat(real, num_real, seed), *kept], seed, round)


def in_order(rows: Sequence[Row], seed: int, round: int) -> list[Row]:
    """`rows` in training order."""
    return sorted(rows, key=lambda row: (derive_seed(seed, round, "mix", "order", row.id), row.id))


def _budget(real: Sequence[Row], ratio: float, policy: Mix) -> float:
    """`ratio` x real. A cap is not rounded, so that it holds; 0.29 x 100 rows are to be 29 where that is asked."""
    budget = ratio * sum(sizes(real, policy.unit)) if ratio else 0.0
    return budget if policy.is_capped else round(budget, 6)


def select(rows: Sequence[Row], budget: float, unit: str, seed: int) -> list[Row]:
    """At most `budget` tokens or rows of `rows`, shared equally over their rounds (see the module's docstring).

    A row that no longer fits is passed over and smaller ones after it are still tried, so that one huge row cannot
    block a round.
    """
    queues: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (derive_seed(seed, "mix", "select", row.id), row.id), reverse=True):
        queues.setdefault(row.round, []).append(row)
    used = dict.fromkeys(queues, 0)
    kept = []
    while queues:
        round = min(queues, key=lambda number: (used[number], number))
        row = queues[round].pop()
        (size,) = sizes([row], unit)
        if sum(used.values()) + size <= budget:
            used[round] += size
            kept.append(row)
        if not queues[round]:
            del queues[round]
    return kept


def repeat(real: Sequence[Row], num_rows: int, seed: int) -> list[Row]:
    """`real`, and further passes over it (the last one cut) until there are `num_rows`; copies are named `id#2`."""
    order = _pass(real, seed)
    rows = []
    for index in range(num_rows if order else 0):
        row, copy = order[index % len(order)], index // len(order) + 1
        rows.append(row if copy == 1 else row.model_copy(update={"id": f"{row.id}#{copy}"}))
    return rows


def _pass(real: Sequence[Row], seed: int) -> list[Row]:
    """The order in which real rows are repeated."""
    return sorted(real, key=lambda row: (derive_seed(seed, "mix", "repeat", row.id), row.id))


def rows_for_share(real: Sequence[Row], share: float, others: int, unit: str, seed: int) -> int:
    """The least n for which `repeat(real, n, seed)` is at least `share` of a mix whose other rows are `others` big."""
    once = sizes(_pass(real, seed), unit)
    needed = round(share / (1 - share) * others, 6)
    if needed == 0 or sum(once) == 0:
        return 0
    passes, rest = divmod(needed, sum(once))
    num_rows = int(passes) * len(once)
    for size in once:
        if rest <= 0:
            break
        rest, num_rows = rest - size, num_rows + 1
    return num_rows


def mix_round(run: Run, round: int) -> None:
    """The stage.

    Raises:
        UserError: as `read_sources` does; or there is no row at all.
    """
    stage = run.stage(round, "mix")
    if stage.is_complete:
        log.info("mix: round %d is already done.", round)
        return
    sources = read_sources(run, round)
    policy, found = found_ratio(run, round)
    real, synthetic, override = sources.real, sources.synthetic, sources.override
    with stage.write([*sources.inputs, *found]) as out:
        rows = mix_rows(real, synthetic, policy, run.config.seed, round, replay=sources.replayed, override=override)
        if not rows:
            raise UserError(f"round {round}: mix.policy is {policy.policy}, and no synthetic row was kept to train on.")
        facts = describe(rows, real, synthetic, policy, round=round, override=override)
        facts |= replay_facts(policy, sources.replay)
        write_rows(out.folder / "train.jsonl", rows)
        write_json(out.folder / "mix.json", facts)
        warnings = notices(facts, policy)
        out.notes.update(warnings=warnings, rows=len(rows), tokens=sum(row.num_tokens for row in rows))
        out.notes.update({"replay_sha256": sources.replay.sha256} if sources.replay else {})
    report(facts, warnings)


def found_ratio(run: Run, round: int) -> tuple[Mix, list[Path]]:
    """The mix with the ratio that the round's search has found, and the file it stands in, where there was one.

    Raises:
        UserError: the policy is `adaptive` and the search of this round has not been made.
    """
    policy, path = run.config.mix, run.round_dir(round) / "search.json"
    if policy.policy != "adaptive":
        return policy, []
    return policy.settled(read_json(path)["ratio"]), [path]


def replay_facts(policy: Mix, replay: Replay | None) -> dict[str, Any]:
    """What `mix.json` says of the file of `mix.replay`; nothing where there is none."""
    if replay is None:
        return {}
    facts = {"available": len(replay.rows), "held_out": replay.held_out, "sha256": replay.sha256, **replay.unread}
    return {"replay": {"path": str(policy.replay), **facts}}


def report(facts: dict[str, Any], warnings: Sequence[str]) -> None:
    """Log the mix, what is to be known of it first."""
    for warning in warnings:
        log.warning("mix: %s", warning)
    replayed = facts["by_source"]["replay"]["rows"]
    log.info(
        "mix: %d real + %d synthetic%s rows, %.0f%% of the tokens real (%d candidates over the cap).",
        facts["real_rows"],
        facts["synthetic_rows"],
        f" + {replayed} replayed" if replayed else "",
        100 * facts["real_fraction"],
        facts["dropped"]["over_cap"],
    )


def main(arguments: argparse.Namespace) -> None:
    mix_round(open_run(arguments), arguments.round)


if __name__ == "__main__":
    run_child(main, parser=stage_parser(__doc__))
