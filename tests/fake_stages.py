"""A stand-in for every stage, for tests of the loop alone: real store, made-up contents.

    python tests/fake_stages.py --run R --round N STAGE[,STAGE]

What a round scores is read from `R/script.json`: {"gains": {"1": 0.1, ...}, "kept": {"2": 0}, "exit": {"1/train": 4},
"collapse": {"2": "stop"}, "devices": {"generate": 8}, "warn": {"1/mix": "a warning"}}.
Each call adds a line to `R/calls.txt`.
"""

import argparse
import json
import logging
from typing import Any

from synthloop.child import run_child, stage_parser
from synthloop.errors import StageFailed, UserError
from synthloop.store import Run, write_json

log = logging.getLogger("synthloop.fake")

PAIRED = {"against_round": 0, "ci_low": 0.0, "ci_high": 0.2, "n": 100, "p_value_two_sided": 0.01}
SEARCH = {
    "ratio": 1.0,
    "in_force": 1.0,
    "effects": [{"ratio": 2.0, "gain": 0.1, "ci_low": -0.1, "ci_high": 0.3, "separated": False}],
    "recipes": {"shares": {"repair": 0.75, "explore": 0.25}},
    "cost": {"trials": 4, "train_tokens": 10, "train_seconds": 2.0, "score_tokens": 5, "score_seconds": 1.0},
}
SCORES = {"metric": "exact_match", "ci_low": 0.0, "ci_high": 1.0, "n": 100, "truncated": 0, "slices": {}}


def paired(gain: float) -> dict[str, Any]:
    return {**PAIRED, "gain": gain, "p_value": 0.01 if gain > 0 else 0.9}


def contents(stage: str, round: int, script: dict[str, Any]) -> dict[str, Any]:
    gain = script.get("gains", {}).get(str(round), 0.1)
    scores = {**SCORES, "value": 0.3 + gain}
    if stage == "eval":
        both = {"probe": paired(gain), "gate": paired(gain)}
        return {
            "eval/scores.json": {"splits": {"probe": scores, "gate": scores}, "paired": both, "paired_baseline": both},
            "collapse.json": {
                "verdict": script.get("collapse", {}).get(str(round), "uncalibrated"),
                "reason": "nll rises",
                "signals": {"nll": 1.0},
            },
        }
    if stage == "test":
        return {"eval/test.json": {"splits": {"test": scores}, "paired": {"test": paired(gain)}}}
    if stage == "curate":
        told = ["recipe: engine error: The prompt has 592 tokens (14)", "novelty: near (2)"]
        kept = script.get("kept", {}).get(str(round), 5)
        return {"funnel.json": {"kept": kept, "rejected": {"novelty": 2}, "most_frequent": told}}
    if stage == "mix":
        names = ("real_rows", "synthetic_rows", "real_tokens", "synthetic_tokens", "real_fraction", "max_depth")
        return {"mix.json": dict.fromkeys(names, 1)}
    if stage == "search":
        return {"search.json": SEARCH | script.get("search", {}).get(str(round), {})}
    if stage == "train":
        return {"adapter/adapter_config.json": {"round": round}}
    return {f"{stage}.json": {}}


def main(arguments: Any) -> None:
    run = Run(arguments.run)
    script = json.loads((run.root / "script.json").read_text())
    for name in arguments.stages.split(","):
        stage = run.stage(arguments.round, name)
        if stage.is_complete:
            continue
        with (run.root / "calls.txt").open("a") as calls:
            calls.write(f"{arguments.round}/{name}\n")
        code = script.get("exit", {}).get(f"{arguments.round}/{name}", 0)
        if code:
            raise (UserError if code == 2 else StageFailed)("said the stage")
        with stage.write([]) as writer:
            for file, value in contents(name, arguments.round, script).items():
                write_json(writer.folder / file, value)
            counts = ("requests", "candidates", "prompt_tokens", "completion_tokens", "truncated")
            writer.notes.update(dict.fromkeys(counts, 7) if name == "generate" else {})
            writer.notes["devices"] = script.get("devices", {}).get(name, 1)
        if told := script.get("warn", {}).get(f"{arguments.round}/{name}"):
            log.warning("%s", told)


def parser() -> argparse.ArgumentParser:
    made = stage_parser(__doc__)
    made.add_argument("stages")
    return made


if __name__ == "__main__":
    run_child(main, parser=parser())
