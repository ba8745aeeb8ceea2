"""People look at samples: a queue to decide on, and what their decisions say of the filters.

    synthloop review runs/mine --round 2 --to queue.jsonl       half kept, half refused as wrong, drawn by a seeded hash
    (write "keep" or "reject" as the `decision` of each line; a `completion` or `answer` that is almost right may be
    corrected in its place and kept)
    synthloop review runs/mine --from queue.jsonl               into reviews.jsonl; prints how far the filters agree

From the next round on what was rejected is no training data, what was kept though a filter refused it is, and the
filter `review` refuses samples like the rejected ones. A corrected sample is trained on in its new words; it counts
neither for nor against the filters.
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
CORRECTABLE = ("completion", "answer")


def main(arguments: argparse.Namespace) -> None:
    run = open_run(arguments)
    if arguments.to is not None:
        number = export(run, arguments.round, arguments.to, arguments.size)
        say(f"{number} samples of round {arguments.round} in {arguments.to}. Write keep or reject as each `decision`,")
        say(f"then: synthloop review {run.root} --from {arguments.to}")
        return
    taken = take(run, arguments.taken_from)
    corrected = sum(bool(one.corrected) for one in taken)
    say(f"{len(taken)} decisions taken, {corrected} of them with a correction; {len(run.reviews())} in all.")
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
    mixed = sorted(chosen, key=lambda one: _order(run, one.id))
    lines = [json.dumps({**_before(one), **_shown(one)}, ensure_ascii=False) for one in mixed]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


def _order(run: Run, id: str) -> int:
    return derive_seed(run.config.seed, "review", id)


def _before(one: Candidate) -> dict[str, str]:
    """The conversation that `input` is the last turn of, where there is more than that turn."""
    whole = problems.shown(one)
    return {} if whole == one.input else {"conversation": whole}


def _shown(one: Candidate) -> dict[str, Any]:
    shown = {"id": one.id, "round": one.round, "input": one.input, "completion": one.completion, "answer": one.answer}
    return {**shown, **_PERSONS}


_PERSONS = {"decision": "", "note": ""}
"""Fields of a line that a person fills in."""


def take(run: Run, path: Path) -> list[Review]:
    """Add the decisions in `path` to the run; those that were taken. Lines without a decision are left open.

    Raises:
        UserError: a line names no sample of this run, its decision is neither 'keep' nor 'reject', another line of the
            sample says otherwise, or it changes what can't be corrected.
    """
    known: dict[int, dict[str, Candidate]] = {}
    taken: dict[str, Review] = {}
    for number, row in read_jsonl(path):
        where = f"{path}, line {number}"
        id, decision = row.get("id"), str(row.get("decision") or "").strip().lower()
        round: Any = row.get("round")
        if decision not in (*DECISIONS, ""):
            raise UserError(f"{where}: the decision is {decision!r}; expected 'keep', 'reject' or nothing.")
        sample = None
        if type(round) is int and round in run.rounds() and isinstance(id, str):
            if round not in known:
                kept, refused = samples(run, round)
                known[round] = {one.id: one for one in [*kept, *(one.candidate for one in refused)] if one is not None}
            sample = known[round].get(id)
        corrected = correction(sample, row, decision, where) if sample is not None else {}
        if not decision:
            continue
        if type(round) is not int or round not in run.rounds():
            raise UserError(f"{where}: expected the `round` the sample is of, found {round!r}.")
        if sample is None:
            raise UserError(f"{where}: round {round} of {run.root} has no sample {id!r:.80} to decide on.")
        said = Review(id=sample.id, round=round, decision=decision, note=str(row.get("note") or ""), **corrected)
        if taken.setdefault(said.id, said) != said:
            raise UserError(
                f"{where}: {id} is '{decision}' here and {_differs(taken[said.id], said)}. Leave one of them."
            )
    write_rows(run.reviews_path, {**run.reviews(), **taken}.values())
    return list(taken.values())


def _differs(before: Review, now: Review) -> str:
    if before.decision != now.decision:
        return f"'{before.decision}' above"
    return f"above, with another {'correction' if before.corrected != now.corrected else 'note'}"


def correction(sample: Candidate, row: dict[str, Any], decision: str, where: str) -> dict[str, str]:
    """What a person wrote anew in a line of the queue; fields that the line does not have are as they were.

    Raises:
        UserError: something else of the sample was changed, it is corrected and not kept, or a correction is no text.
    """
    shown = {**(_before(sample) if "conversation" in row else {}), **_shown(sample)}
    there = [name for name in shown if name in row and name not in _PERSONS]
    changed = [name for name in there if _as_text(row[name]) != _as_text(shown[name])]
    if fixed := [name for name in changed if name not in CORRECTABLE]:
        raise UserError(
            f"{where}: '{fixed[0]}' of {sample.id} was changed, and only {' and '.join(CORRECTABLE)} can be corrected. "
            "Put it back, or reject the sample."
        )
    if changed and decision != "keep":
        raise UserError(
            f"{where}: '{changed[0]}' of {sample.id} was changed and the decision is {decision!r}. Write keep to have "
            "the correction taken, or put it back."
        )
    for name in changed:
        if isinstance(row[name], bool) or not isinstance(row[name], str | int | float) or not str(row[name]).strip():
            raise UserError(f"{where}: '{name}' of {sample.id} is {row[name]!r:.80}; expected the corrected text.")
    return {name: str(row[name]) for name in changed}


def _as_text(value: Any) -> str:
    """A value as a spreadsheet may give it back: null as nothing, a text of digits as a number."""
    return "" if value is None else str(value)


def agreement(run: Run) -> dict[str, Any]:
    """How often the filters keep what people keep and what they reject; each with n and a 95% Wilson interval.

    A sample that was kept for its correction is in neither: as the filters saw it, it was not right.
    """
    reviews = [one for one in run.reviews().values() if not one.corrected]
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
