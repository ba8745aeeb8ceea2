"""People look at samples: a queue to decide on, and what their decisions say of the filters.

    synthloop review runs/mine --round 2 --to queue.jsonl       half kept, half refused as wrong, drawn by a seeded hash
    (write "keep" or "reject" as the `decision` of each line)
    synthloop review runs/mine --from queue.jsonl               into reviews.jsonl; prints how far the filters agree

From the next round on what was rejected is no training data, what was kept though a filter refused it is, and the
filter `review` refuses samples like the rejected ones.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from synthloop import plugins, problems
from synthloop.child import open_run, run_child, stage_parser
from synthloop.errors import UserError
from synthloop.jsonl import read_jsonl
from synthloop.randomness import derive_seed
from synthloop.records import Candidate, Rejection, Review
from synthloop.screen import say
from synthloop.store import Run, read_rows, write_rows

DECISIONS = ("keep", "reject")


def main(arguments: argparse.Namespace) -> None:
    run = open_run(arguments)
    if arguments.to is not None:
        number = export(run, arguments.round, arguments.to, arguments.size)
        say(f"{number} samples of round {arguments.round} in {arguments.to}. Write keep or reject as each `decision`,")
        say(f"then: synthloop review {run.root} --from {arguments.to}")
        return
    taken = take(run, arguments.taken_from)
    say(f"{len(taken)} decisions taken, {len(run.reviews())} in all.")
    for name, rate in agreement(run).items():
        told = "no such sample" if rate["n"] == 0 else "{value:.2f} [{ci_low:.2f}, {ci_high:.2f}], n={n}".format(**rate)
        say(f"{name.replace('_', ' ')}: {told}")


def _parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    direction = parser.add_mutually_exclusive_group(required=True)
    direction.add_argument("--to", type=Path, help="write a queue to decide on")
    direction.add_argument("--from", dest="taken_from", type=Path, help="take the decisions of a queue")
    parser.add_argument("--size", type=int, default=50, help="samples in the queue")
    return parser


def samples(run: Run, round: int) -> tuple[list[Candidate], list[Rejection]]:
    """(kept, refused) of a round that a person may decide on; refused are only those a verifier took for wrong.

    What another filter refused (a copy of held-out data, a near-duplicate) may not come back by a person's word.
    """
    folder = run.round_dir(round)
    if not run.stage(round, "curate").is_complete:
        raise UserError(f"Round {round} of {run.root} is not curated yet, so there is nothing to review.")
    verifiers = {one.name for one in run.config.curate.filters if is_verifier(one.name)}
    refused = [one for one in read_rows(folder / "rejected.jsonl", Rejection) if one.filter in verifiers]
    return read_rows(folder / "curated.jsonl", Candidate), [one for one in refused if one.candidate is not None]


def is_verifier(name: str) -> bool:
    """Whether a filter judges if an answer is right or good."""
    return bool(getattr(plugins.load("filter", name), "VERIFIES", False))


def export(run: Run, round: int, path: Path, size: int) -> int:
    """Write at most `size` undecided samples of `round` for a person to decide on; how many.

    Raises:
        UserError: the round is not curated, or `path` exists: decisions in it would be lost.
    """
    if path.exists():
        raise UserError(f"{path} is there already. Import it first, or name another file.")
    done = run.reviews()
    kept, refused = samples(run, round)
    queues = [
        sorted((one for one in many if one is not None and one.id not in done), key=lambda one: _order(run, one.id))
        for many in (kept, [one.candidate for one in refused])
    ]
    num_refused = min(size // 2, len(queues[1]))
    chosen = [*queues[0][: size - num_refused], *queues[1][: max(num_refused, size - len(queues[0]))]]
    # Mixed, and without the filters' verdict: a person who sees it agrees with it more than they should.
    lines = [json.dumps(_shown(one), ensure_ascii=False) for one in sorted(chosen, key=lambda one: _order(run, one.id))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


def _order(run: Run, id: str) -> int:
    return derive_seed(run.config.seed, "review", id)


def _shown(one: Candidate) -> dict[str, Any]:
    whole = problems.shown(one)
    conversation = {} if whole == one.input else {"conversation": whole}  # what `input` is the last turn of
    shown = {"id": one.id, "round": one.round, **conversation, "input": one.input}
    return {**shown, "completion": one.completion, "answer": one.answer, "decision": "", "note": ""}


def take(run: Run, path: Path) -> list[Review]:
    """Add the decisions in `path` to the run; those that were taken. Lines without a decision are left open.

    Raises:
        UserError: a line names no sample of this run, its decision is neither 'keep' nor 'reject', or another line
            decides otherwise.
    """
    known: dict[int, set[str]] = {}
    taken: dict[str, Review] = {}
    for number, row in read_jsonl(path):
        where = f"{path}, line {number}"
        id, round, decision = row.get("id"), row.get("round"), str(row.get("decision") or "").strip().lower()
        if not decision:
            continue
        if decision not in DECISIONS:
            raise UserError(f"{where}: the decision is {decision!r}; expected 'keep', 'reject' or nothing.")
        if type(round) is not int or round not in run.rounds():
            raise UserError(f"{where}: expected the `round` the sample is of, found {round!r}.")
        if round not in known:
            kept, refused = samples(run, round)
            known[round] = {one.id for one in kept} | {one.candidate_id for one in refused}
        if not isinstance(id, str) or id not in known[round]:
            raise UserError(f"{where}: round {round} of {run.root} has no sample {id!r:.80} to decide on.")
        if id in taken and taken[id].decision != decision:
            raise UserError(f"{where}: {id} is '{decision}' here and '{taken[id].decision}' above. Leave one of them.")
        taken[id] = Review(id=id, round=round, decision=decision, note=str(row.get("note") or ""))
    write_rows(run.reviews_path, {**run.reviews(), **taken}.values())
    return list(taken.values())


def agreement(run: Run) -> dict[str, Any]:
    """How often the filters keep what people keep and what they reject; each with n and a 95% Wilson interval."""
    reviews = list(run.reviews().values())
    kept = {one.id for round in {one.round for one in reviews} for one in samples(run, round)[0]}
    return {
        f"filters_keep_what_people_{decision}": _rate([one.id in kept for one in reviews if one.decision == decision])
        for decision in DECISIONS
    }


def _rate(hits: Sequence[bool]) -> dict[str, float | int | None]:
    if not hits:
        return {"value": None, "n": 0, "ci_low": None, "ci_high": None}
    interval = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    return {
        "value": sum(hits) / len(hits),
        "n": len(hits),
        "ci_low": float(interval.low),
        "ci_high": float(interval.high),
    }


if __name__ == "__main__":
    run_child(main, parser=_parser())
