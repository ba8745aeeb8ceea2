"""`report.json`: the whole run in one file, built from the round folders, so it can be made again at any time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthloop.decisions import device_seconds
from synthloop.integrity import is_recorded
from synthloop.store import STAGES, Run, read_json, write_json


def build(run: Run) -> dict[str, Any]:
    """The report as DESIGN section 8 gives it; parts that a run has not reached yet are None."""
    decided = [one["round"] for one in run.decided()]
    rounds = [round_facts(run, round) for round in decided]
    best = run.best_round()
    return {
        "name": run.config.name,
        "rounds": rounds,
        "baseline": rounds[0]["eval"] if rounds else None,
        "best_round": best,
        "gain": headline(run, best),
        "finished": finished(run),
        "failure": read_json(run.failure_path) if run.failure_path.exists() else None,
        "stopped_by": read_json(run.round_dir(decided[-1]) / "round.json")["stopped_by"] if decided else None,
    }


def finished(run: Run) -> bool:
    """Whether the last round was decided and the best one tested, so that running again does nothing."""
    decided, best = run.decided(), run.best_round()
    over = bool(decided) and (decided[-1]["action"] == "stop" or decided[-1]["round"] >= run.config.rounds)
    return over and (best == 0 or run.stage(best, "test").is_complete)


def write(run: Run) -> dict[str, Any]:
    """Build the report and write `report.json`."""
    report = build(run)
    write_json(run.root / "report.json", report)
    return report


def headline(run: Run, best: int) -> dict[str, Any] | None:
    """The paired gain of the best round over the untouched student on `test`; None until it is measured."""
    if best == 0 or not run.stage(best, "test").is_complete:
        return None
    test = read_json(run.round_dir(best) / "eval" / "test.json")
    paired = test["paired"]["test"]
    return {
        "split": "test",
        "value": paired["gain"],
        "ci_low": paired["ci_low"],
        "ci_high": paired["ci_high"],
        "p_value": paired["p_value_two_sided"],
        "n": paired["n"],
    }


def round_facts(run: Run, round: int) -> dict[str, Any]:
    """One round: what was decided, scored, mixed and generated; a stage that did not run gives None."""
    folder = run.round_dir(round)
    verdict = read_json(folder / "round.json")
    return {
        "round": round,
        "trained": run.stage(round, "train").is_complete,
        "accepted": verdict["accepted"],
        "reason": verdict["reason"],
        "action": verdict["action"],
        "reaction": verdict.get("reaction"),
        "measures": verdict.get("measures") or {},
        "eval": evaluation(run, round),
        "overfitting": overfitting(run, round),
        "search": _json(folder / "search.json"),
        "mix": _json(folder / "mix.json"),
        "generate": generation(run, round),
        "funnel": _json(folder / "funnel.json"),
        "curate": curation(run, round),
        "collapse": _json(folder / "collapse.json"),
        "seconds": {name: run.stage(round, name).record()["seconds"] for name in _complete(run, round)},
        "device_seconds": device_seconds(run, round),
        "gpu_seconds": device_seconds(run, round) if on_gpu(run) else 0.0,
    }


def on_gpu(run: Run) -> bool:
    """Whether the run's devices are GPUs and not a CPU."""
    path = run.root / "provenance.json"
    facts = read_json(path) if path.exists() else {}
    return bool(facts.get("machine", {}).get("gpu", True))


def evaluation(run: Run, round: int) -> dict[str, Any]:
    """Split name -> its scores, of every split evaluated in the round."""
    folder = run.round_dir(round) / "eval"
    found: dict[str, Any] = {}
    for name in ("scores.json", "test.json"):
        found |= (_json(folder / name) or {"splits": {}})["splits"]
    return found


def overfitting(run: Run, round: int) -> dict[str, float] | None:
    """The gain over the untouched student on `probe`, whose failures seed the rounds, beside that on `gate`."""
    scores = _json(run.round_dir(round) / "eval" / "scores.json")
    if round == 0 or scores is None:
        return None
    probe, gate = (scores["paired_baseline"][split]["gain"] for split in ("probe", "gate"))
    return {"probe_gain": probe, "gate_gain": gate, "gap": probe - gate}


def generation(run: Run, round: int) -> dict[str, Any] | None:
    """What the round asked of its engines and what curation kept of it."""
    stage = run.stage(round, "generate")
    if not stage.is_complete:
        return None
    record, funnel = stage.record(), _json(run.round_dir(round) / "funnel.json") or {}
    names = ("requests", "candidates", "prompt_tokens", "completion_tokens", "seconds", "truncated")
    facts = {"kept": funnel.get("kept"), **{name: record[name] for name in names}}
    return {**facts, "errors": record.get("errors", 0), "error_messages": record.get("error_messages", [])}


def curation(run: Run, round: int) -> dict[str, Any] | None:
    """What the filters asked of models, and how what they kept differs from real rows, in a sentence."""
    stage = run.stage(round, "curate")
    if not stage.is_complete:
        return None
    record, found = stage.record(), _json(run.round_dir(round) / "fidelity.json")
    return {
        **{name: record.get(name, 0) for name in ("requests", "prompt_tokens", "completion_tokens", "errors")},
        "error_messages": record.get("error_messages", []),
        "fidelity": found["summary"] if found else None,
        "fidelity_flagged": sum(one["flagged"] for one in found["comparisons"]) if found else None,
    }


def _complete(run: Run, round: int) -> list[str]:
    names = (*STAGES[:-1], "test")
    return [name for name in names if run.stage(round, name).is_complete]


def _json(path: Path) -> Any:
    return read_json(path) if is_recorded(path) else None
