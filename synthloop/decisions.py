"""What is decided between rounds: accept or roll back, go on or stop, and what the next round is told to do otherwise.

decide      eval/scores.json, collapse.json of the round -> round.json
hand_over   round.json and search.json of earlier rounds -> mix_override.json, seed_override.json of the next
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from synthloop import guard
from synthloop.config import Config
from synthloop.integrity import is_recorded
from synthloop.journal import Journal
from synthloop.store import Run, read_json, write_json
from synthloop.trials import in_force, last_search

log = logging.getLogger("synthloop.decisions")


def hand_over(run: Run, round: int) -> None:
    """Write what the collapse guard has in force, and the shares of recipes that earlier trials speak for, where the
    round's stages read it."""
    before = [one for one in run.decided() if one["round"] < round]
    measures = (before[-1].get("measures") or {}) if before else {}
    action = f"collapse.action is {run.config.collapse.action}"
    mix = guard.overrides(measures, guard.MIX_MEASURES, action)
    seeds = guard.overrides(measures, guard.SEED_MEASURES, action)
    searched = last_search(run, round)
    if run.config.generate.allocation == "thompson" and searched is not None:
        reasons = [*([seeds["reason"]] if seeds else []), f"generate.allocation is thompson, by {searched.parent.name}"]
        shares = read_json(searched)["recipes"]["shares"]
        seeds = {**(seeds or {}), "shares": shares, "reason": "; ".join(reasons)}
    for file, values in (("mix_override.json", mix), ("seed_override.json", seeds)):
        if values is not None:
            write_json(run.round_dir(round) / file, values, sealed=True)
        else:
            (run.round_dir(round) / file).unlink(missing_ok=True)


def decide(run: Run, round: int) -> None:
    """Write `round.json`: accept or roll back by the paired gain on `gate`, go on or stop by patience and budget."""
    folder = run.round_dir(round)
    scores, collapse = folder / "eval" / "scores.json", folder / "collapse.json"
    evaluated = run.stage(round, "eval").is_complete
    with run.stage(round, "decide").write([scores, collapse] if evaluated else []) as stage:
        before = [one for one in run.decided() if one["round"] < round]
        gate = read_json(scores)["paired"]["gate"] if evaluated and round > 0 else None
        signs = read_json(collapse) if is_recorded(collapse) else None
        mix = run.config.mix
        mix = mix.settled(in_force(run, round + 1)) if mix.policy == "adaptive" else mix
        reaction = guard.react(run.config.model_copy(update={"mix": mix}), signs, before)
        accepted, reason = judge(run.config, round, gate) if round == 0 or gate else (False, nothing_kept(run, round))
        if reaction.blocks and round > 0:
            accepted, reason = False, f"rolled back: {reaction.told}"
        best = round if accepted else run.accepted_round(round)
        if reaction.stop:
            best = best_on_gate(run, [one["round"] for one in before if one["accepted"] and one["round"] > 0])
        rejected = [*(not one["accepted"] for one in before), not accepted]
        spent = spending(run)
        stop = reaction.stop or _stop(run.config, rejected, spent)
        stage.notes["spent"] = spent
        write_json(
            stage.folder / "round.json",
            {
                "round": round,
                "accepted": accepted,
                "best_round": best,
                "reason": reason,
                "action": "stop" if stop else "continue",
                "stopped_by": stop,
                "gate": gate,
                "collapse": signs["verdict"] if signs else None,
                "reaction": reaction.told,
                "measures": reaction.measures,
            },
        )


def best_on_gate(run: Run, rounds: Sequence[int]) -> int:
    """The round of `rounds` with the highest score on `gate`, the earliest of equals; 0 where there are none.

    After a collapse the last accepted round is not the best one: a trend was going on before it was told from noise.
    """
    scores = {one: read_json(run.round_dir(one) / "eval" / "scores.json")["splits"]["gate"]["value"] for one in rounds}
    return max(scores, key=lambda one: (scores[one], -one), default=0)


def nothing_kept(run: Run, round: int) -> str:
    """Why a round ended before training: its curation kept nothing, for what most candidates were refused for."""
    funnel = read_json(run.round_dir(round) / "funnel.json")
    why = f" ({'; '.join(funnel['most_frequent'])})" if funnel.get("most_frequent") else ""
    return f"nothing trained: no sample was kept by curation{why}; the last good adapter stands"


def judge(config: Config, round: int, gate: dict[str, Any] | None) -> tuple[bool, str]:
    """(accepted, why) for a round's paired comparison on `gate` with the accepted round before it; None for round 0."""
    if gate is None:
        assert round == 0, round
        return True, "the untouched student"
    told = (
        f"gain {100 * gate['gain']:+.2f} points over round {gate['against_round']} on gate "
        f"(n={gate['n']}, p={gate['p_value']:.4g})"
    )
    if gate["gain"] <= config.decide.min_gain:
        points = f"{100 * config.decide.min_gain:g} points"
        return False, f"rolled back: {told} is not above decide.min_gain={config.decide.min_gain:g} ({points})"
    if gate["p_value"] > config.decide.max_p_value:
        return False, f"rolled back: {told} is above decide.max_p_value={config.decide.max_p_value}"
    return True, f"accepted: {told}"


def _stop(config: Config, rejected: list[bool], spent: dict[str, float]) -> str | None:
    """Why the run should stop after this round, or None. `rejected` has one entry a round, the last this one's."""
    patience = config.decide.patience
    if len(rejected) >= patience and all(rejected[-patience:]):
        return f"patience: {patience} rounds in a row were not accepted"
    if config.budget.teacher_tokens is not None and spent["teacher_tokens"] >= config.budget.teacher_tokens:
        return f"budget: {spent['teacher_tokens']:.0f} of {config.budget.teacher_tokens} teacher tokens are spent"
    if config.budget.gpu_hours is not None and spent["device_hours"] >= config.budget.gpu_hours:
        return (
            f"budget: {spent['device_hours']:.3g} device hours are spent, budget.gpu_hours is {config.budget.gpu_hours}"
        )
    return None


def spending(run: Run) -> dict[str, float]:
    """Teacher tokens (prompt + completion, all roles but the student) and device hours of all complete stages."""
    tokens = 0
    if run.journal_path.exists():
        with Journal(run.journal_path, "decide") as journal:
            tokens = journal.tokens(run.config.roles.keys() - {"student"})
    before = [run.stage(one["round"], "decide").record()["spent"]["teacher_tokens"] for one in run.decided()]
    if tokens < max(before, default=0):
        told = "replies were lost: %s holds %d tokens, and %d were spent before. The budget counts those."
        log.warning(told, run.journal_path, tokens, max(before))
    seconds = sum(device_seconds(run, round) for round in run.rounds())
    return {"teacher_tokens": max(tokens, *before, 0), "device_hours": round(seconds / 3600, 6)}


def device_seconds(run: Run, round: int) -> float:
    """Device seconds of a round: the wall time of the stages that ask models or train, times the devices they hold.

    Devices are GPUs; on a machine without one its CPU is the one device. Servers that ran already hold none of ours.
    """
    total = 0.0
    for name in ("generate", "curate", "trials", "search", "train", "eval", "test"):
        stage = run.stage(round, name)
        if stage.is_complete:
            record = stage.record()
            total += record["seconds"] * record.get("devices", 1)
    return total
