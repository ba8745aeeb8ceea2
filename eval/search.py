"""Stage `search`: what the round's trials score on held-out real data, and the mix that follows.

    python -m eval.search --run runs/quickstart --round 2

Each trial's adapter answers every example of `gate`, all in one engine. `search.json` has the ratio to mix by, why, the
curve, the gain of every ratio with its interval, every trial's score, and what the search cost; where
`generate.allocation` is 'thompson', also what each recipe gained and the next round's shares. Ratios are chosen by
`gate`, as every decision of the loop is; a round's own gain on it is of another training, and `test` is never read.
With `--to DIR` the trials are those in DIR, and the curves are drawn there (`synthloop sweep`).
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval import bandit, curve, sweep
from eval.run import read_split
from eval.student import Student, answer
from synthloop import progress
from synthloop.child import open_run, run_child, stage_parser
from synthloop.errors import UserError
from synthloop.randomness import derive_seed
from synthloop.store import Run, write_json
from synthloop.task import open_task
from synthloop.trials import Trained, Trial, in_force, read_trials

log = logging.getLogger("synthloop.eval")


class Scored(NamedTuple):
    """A trial with the score of each held-out example, in order."""

    trained: Trained
    values: list[float]

    @property
    def trial(self) -> Trial:
        return self.trained.trial


def main(arguments: argparse.Namespace) -> None:
    """Score the round's trials and choose, or draw the curves of those in a folder. Raises `UserError`."""
    run, round, folder = open_run(arguments), arguments.round, arguments.to
    if folder is not None:
        scored, _ = score_all(run, folder / "trials")
        sweep.write(folder, [(one.trained, one.values) for one in scored], derive_seed(run.config.seed, "sweep"))
        return
    stage = run.stage(round, "search")
    if stage.is_complete:
        log.info("search: round %d is already done.", round)
        return
    trials = run.round_dir(round) / "trials"
    with stage.write([trials, run.split("gate")]) as out:
        scored, usage = score_all(run, trials)
        facts = decide(run, round, scored)
        facts["cost"] = cost(run, round, scored, usage)
        facts["told"] = f"{facts['reason']}; {spent(facts['cost'])}"
        write_json(out.folder / "search.json", facts)
        out.notes.update(usage)
    log.info("search: %s", facts["told"])


def score_all(run: Run, folder: Path) -> tuple[list[Scored], dict[str, Any]]:
    """Each trial of `folder` with its scores on `gate`; and the requests, tokens and seconds that took.

    Raises:
        UserError: no example was answered by every trial.
        StageFailed: more of a trial's requests were not served than `max_error_share`.
    """
    started = time.monotonic()
    trials, examples = read_trials(folder), read_split(run, "gate")
    task = open_task(run.config.task.name, run.config.task.settings)
    update = progress.updates(len(trials), "search")
    answered = []
    with Student(run, trials[0][1]) as student:
        for trained, adapter in trials:
            student.use(adapter)
            answered.append(answer(student, task, examples, run.config.eval.sampling, trained.trial.name).predictions)
            update(len(answered))
        usage: dict[str, Any] = student.take_usage()
    # Trials are compared on the examples that each of them answered.
    columns = [column for column in zip(*answered, strict=True) if all(one.error is None for one in column)]
    if not columns:
        raise UserError(f"{folder}: no example of gate was answered by every trial, so they cannot be compared.")
    values = [[one.value for one in row] for row in zip(*columns, strict=True)]
    scored = [Scored(trained, row) for (trained, _), row in zip(trials, values, strict=True)]
    return scored, {**usage, "scoring_seconds": float(f"{time.monotonic() - started:.3f}")}


def decide(run: Run, round: int, scored: Sequence[Scored]) -> dict[str, Any]:
    """`search.json` without the cost."""
    mix, seed = run.config.mix, derive_seed(run.config.seed, round, "search")
    amounts = [one for one in scored if one.trial.axis == "amount"]
    current = in_force(run, round)
    table = curve.Scores.of([(one.trial.value, one.trial.seed, one.values) for one in amounts])
    # Where there is less synthetic data than that, or hardly more, all there is stands for the ratio in force.
    stands_for = min(table.ratios, key=lambda ratio: abs(ratio - current))
    choice = curve.choose(table, stands_for, mix.proxies.alpha, seed)
    stays = choice.ratio == stands_for
    stands = "" if stands_for == current else f" ({stands_for:.3g}, all there is, stands for {current:.3g} in force)"
    return {
        "ratio": current if stays else choice.ratio,
        "in_force": current,
        "changed": not stays,
        "reason": choice.reason + stands,
        "effects": [one._asdict() for one in choice.effects],
        "curve": choice.curve._asdict(),
        "trials": [point(one) for one in scored],
        "recipes": recipes(run, round, scored, table) if run.config.generate.allocation == "thompson" else None,
    }


def point(one: Scored) -> dict[str, Any]:
    """What a trial trained on and its mean score."""
    return {**one.trained.model_dump(), "value": float(np.mean(one.values)), "n": len(one.values)}


def recipes(run: Run, round: int, scored: Sequence[Scored], amounts: curve.Scores) -> dict[str, Any]:
    """What each recipe has gained for its teacher tokens, and its share of the next round's seeds.

    `amounts` are the scores of the trials with all recipes, the largest mix last.
    """
    tokens: Counter[str] = Counter()
    for one in range(1, round + 1):
        tokens.update(run.stage(one, "generate").record()["tokens_by_recipe"])
    noise, whole = curve.training_variance(amounts), amounts.values[-1]
    without = {
        name: np.array([one.values for one in scored if one.trial.recipe == name])
        for name in {one.trial.recipe for one in scored}
    }
    gains = {name: bandit.measure(whole, without.get(name), noise, spent) for name, spent in sorted(tokens.items())}
    return {
        "gains": {name: {**one._asdict(), "per_million": one.per_million[0]} for name, one in gains.items()},
        "shares": bandit.shares(gains, derive_seed(run.config.seed, round, "thompson")),
    }


def cost(run: Run, round: int, scored: Sequence[Scored], usage: dict[str, Any]) -> dict[str, Any]:
    """What the search took: trainings, tokens trained (once through) and generated, seconds."""
    return {
        "trials": len(scored),
        "train_tokens": sum(one.trained.tokens for one in scored),
        "train_seconds": run.stage(round, "trials").record()["seconds"],
        "score_tokens": usage["prompt_tokens"] + usage["completion_tokens"],
        "score_seconds": usage["scoring_seconds"],
    }


def spent(cost: dict[str, Any]) -> str:
    """The cost in words."""
    return (
        f"{cost['trials']} trials: {cost['train_seconds']:.0f} s and {cost['train_tokens']} tokens of training rows, "
        f"{cost['score_seconds']:.0f} s and {cost['score_tokens']} tokens of scoring"
    )


def parser() -> argparse.ArgumentParser:
    options = stage_parser(__doc__)
    options.add_argument("--to", type=Path, help="score the trials in DIR and draw their curves instead")
    return options


if __name__ == "__main__":
    run_child(main, parser=parser())
