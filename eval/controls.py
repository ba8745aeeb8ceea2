"""Collect the spread of the collapse signals from runs on real data alone, for `collapse.controls`.

    synthloop run configs/quickstart.yaml generate.recipes=[] roles={} rounds=5 decide.patience=5 seed=1 \\
        collapse.action=none --run-dir runs/real-1                          and the same with other seeds
    python -m eval.controls --run runs/quickstart --out controls.json runs/real-1 runs/real-2
    synthloop run configs/quickstart.yaml collapse.controls=controls.json

Each round from 1 on of a control run is one retrain. Rounds of a run differ by their training seed alone; runs of other
seeds differ by their splits and frozen prompts too, so that the spread is that of another subsample, and of another
`gate` (which errs to the safe side). What a run without synthetic rows can't measure, the diversity of kept rows
(`data_...`), is taken from `NUM_DRAWS` draws of the train rows of --run, with replacement and as many as its newest
round kept; it is left out, and then never tested, where --run has no such round yet. Teachers that change what they
write from round to round (they are aimed at failures) vary by more than that.

Have eight retrains or more: for five signals and six rounds Student's quantile is 9.5 with four, 4.6 with eight.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval import collapse, diversity
from eval.signals import WRITTEN, measure_diversity, trends
from eval.trend import MIN_CONTROLS
from synthloop.child import run_child
from synthloop.config import Config
from synthloop.errors import UserError
from synthloop.randomness import draw, rng
from synthloop.records import Candidate, Example
from synthloop.store import Run, read_json, read_rows, stage_settings, write_json

log = logging.getLogger("synthloop.eval")

NUM_DRAWS = 20
"""Of train rows; more would not make the student's controls any more numerous (chosen)."""

Values = dict[str, list[float]]


def main(arguments: argparse.Namespace) -> None:
    """Write the controls and say how many values each signal has."""
    if arguments.out.exists():
        raise UserError(f"{arguments.out} is there already. Name another file, or delete it.")
    run, others = Run(arguments.run), [Run(path) for path in arguments.controls]
    values, budgets = collect(run, others), measured_on(run, others)
    names = sorted({other.root.resolve().name for other in others})
    write_json(arguments.out, {"runs": names, "signals": values} | ({"measured_on": budgets} if budgets else {}))
    retrains = max(map(len, values.values()), default=0)
    untested = [name for name in trends(run.config.collapse.num_prompts) if len(values.get(name, ())) < MIN_CONTROLS]
    log.info("%s: %d signals of up to %d values from %s", arguments.out, len(values), retrains, ", ".join(names))
    if untested:
        log.warning("Fewer than %d values, so never tested with these: %s", MIN_CONTROLS, ", ".join(untested))


def collect(run: Run, others: list[Run]) -> Values:
    """Signal -> its values in the control rounds of `others`, and in draws of the real rows of `run`.

    Raises:
        UserError: a run that measures something else, trained on synthetic rows, or has no round to offer.
    """
    values: Values = {}
    for other in others:
        _check_comparable(run, other)
        rounds = list(_rounds(other))
        if not rounds:
            raise UserError(f"{other.root}: no evaluated round after round 0. Let it run, with collapse.enabled=true.")
        for one in rounds:
            for name in trends(1):
                if (value := one["signals"].get(name)) is not None:
                    values.setdefault(name, []).append(value)
    return values | _drawn(run)


def measured_on(run: Run, others: list[Run]) -> dict[str, int]:
    """At how many words of a text diversity was measured, as `collapse.json` has it. Of replies that is left out, and
    their diversity then never tested, where control rounds differ."""
    replies = {one.get("measured_on", {}).get("words_per_reply") for other in others for one in _rounds(other)} - {None}
    if len(replies) > 1:
        log.warning("The controls read %s words of a reply: its diversity cannot be compared", sorted(replies))
    rows = {"words_per_row": _words_per_row(run)} if _num_kept(run) else {}
    return rows | ({"words_per_reply": replies.pop()} if len(replies) == 1 else {})


def _rounds(run: Run) -> Iterator[dict[str, Any]]:
    """The `collapse.json` of each round after 0."""
    for round in run.rounds():
        path = run.round_dir(round) / "collapse.json"
        if round == 0 or not run.stage(round, "eval").is_complete or not path.exists():
            continue
        if (count := read_json(run.round_dir(round) / "mix.json")["synthetic_rows"]) > 0:
            raise UserError(
                f"{run.root}: round {round} was trained on {count} synthetic rows. A control is trained on real data "
                "alone: run it with generate.recipes=[] roles={}."
            )
        found: dict[str, Any] = read_json(path)
        yield found


def _check_comparable(run: Run, other: Run) -> None:
    ours, theirs = _measuring(run.config), _measuring(other.config)
    if different := [section for section in ours if ours[section] != theirs[section]]:
        raise UserError(
            f"{other.root} measures other signals than {run.root}: {', '.join(different)} differ. A control run has "
            "the same config but for seed, rounds, generate and roles."
        )


def _measuring(config: Config) -> dict[str, Any]:
    """The settings that signals of real-only rounds depend on, the seed apart."""
    sections = {name: one for stage in ("data", "train", "eval") for name, one in stage_settings(config, stage).items()}
    sections["collapse"] = {name: sections["collapse"][name] for name in ("num_prompts", "num_samples", "sampling")}
    return {name: one for name, one in sections.items() if name != "seed"}


def _drawn(run: Run) -> Values:
    """The `data_` signals of rows drawn from the real train rows, as if curation had kept those."""
    size = _num_kept(run)
    if size == 0:
        return {}
    texts, per_row = _real_rows(run), _words_per_row(run)
    real = diversity.reference(texts)
    values: Values = {}
    for number in range(NUM_DRAWS):
        drawn = rng(run.config.seed, "controls", number).choices(texts, k=size)
        seen = collapse.pool_sample(drawn, per_row, run.config.generate.num_seeds)
        measured = measure_diversity(seen, real)
        for name in WRITTEN:
            if (value := measured[name]) is not None:
                values.setdefault(f"data_{name}", []).append(value)
    return values


def _num_kept(run: Run) -> int:
    """Synthetic rows that the newest round with any curation kept."""
    kept = [path for round in run.rounds() if (path := run.round_dir(round) / "curated.jsonl").exists()]
    return len(read_rows(kept[-1], Candidate)) if kept else 0


def _real_rows(run: Run) -> list[str]:
    train = draw(read_rows(run.split("train"), Example), collapse.MAX_REAL_ROWS, run.config.seed)
    return [collapse.whole_text(one) for one in train]


def _words_per_row(run: Run) -> int:
    return collapse.words_per_text(_real_rows(run), collapse.WORDS_PER_ROW)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--run", type=Path, required=True, help="the run to calibrate, or one of the same config")
    options.add_argument("--out", type=Path, required=True, help="the file to write")
    options.add_argument("controls", type=Path, nargs="+", help="run directories of runs on real data alone")
    return options


if __name__ == "__main__":
    run_child(main, parser=parser())
