"""`synthloop trace RUN SAMPLE_ID`: where a sample came from and what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from synthloop import problems
from synthloop.errors import UserError
from synthloop.integrity import is_recorded
from synthloop.journal import Journal
from synthloop.records import Candidate, Example, Rejection, Row, Seed
from synthloop.store import Run, read_rows


def trace_lines(run: Run, sample_id: str) -> Iterator[str]:
    """The story of a candidate or of a real example, a line at a time. Raises `UserError` for an unknown id."""
    candidate = _candidate(run, sample_id)
    if candidate is None:
        yield from _real(run, sample_id)
        return
    yield f"{candidate.id}: synthetic, recipe {candidate.recipe}, round {candidate.round}, depth {candidate.depth}"
    yield from _block("prompt", problems.shown(candidate))
    yield from _block("completion", candidate.completion)
    yield f"answer {candidate.answer!r} ({'gold' if candidate.gold else 'by votes ' + json.dumps(candidate.votes)})"
    yield from _seed(run, candidate)
    yield from _requests(run, candidate)
    yield from _fate(run, candidate)


def _candidate(run: Run, sample_id: str) -> Candidate | None:
    for round in run.rounds():
        path = run.round_dir(round) / "candidates.jsonl"
        for candidate in read_rows(path, Candidate) if is_recorded(path) else []:
            if candidate.id == sample_id:
                return candidate
    return None


def _real(run: Run, sample_id: str) -> Iterator[str]:
    for split in ("train", "probe", "gate", "test"):
        for example in read_rows(run.split(split), Example):
            if example.id == sample_id:
                yield f"{sample_id}: real, split {split}, slice {example.slice}"
                yield from _block("prompt", problems.shown(example))
                yield from _block("completion", example.completion)
                return
    raise UserError(f"{run.root}: no candidate and no real example has the id '{sample_id}'. See candidates.jsonl.")


def _block(name: str, text: str) -> Iterator[str]:
    yield f"{name}:"
    yield from ("    " + line for line in text.splitlines())


def _seed(run: Run, candidate: Candidate) -> Iterator[str]:
    for seed in read_rows(run.round_dir(candidate.round) / "seeds.jsonl", Seed):
        if seed.id == candidate.seed_id:
            yield f"seed {seed.id} from the real example {seed.example.id} (slice {seed.example.slice})"
            yield from _block("example", problems.shown(seed.example))
            if seed.response is not None:
                yield from _block("the student's wrong answer", seed.response)


def _requests(run: Run, candidate: Candidate) -> Iterator[str]:
    with Journal(run.journal_path, "trace") as journal:
        for key in candidate.lineage.get("requests", []):
            found = journal.find(key)
            if found is None:
                yield f"request {key}: not in the journal"
                continue
            request, reply = found
            yield f"request {key} to {request.role}, sampling {json.dumps(request.sampling, sort_keys=True)}"
            for message in request.messages:
                yield from _block(f"  {message['role']}", message["content"])
            yield from _block(f"  reply ({reply.completion_tokens} tokens, {reply.finish_reason})", reply.text)


def _fate(run: Run, candidate: Candidate) -> Iterator[str]:
    folder = run.round_dir(candidate.round)
    rejected = folder / "rejected.jsonl"
    for rejection in read_rows(rejected, Rejection) if is_recorded(rejected) else []:
        if rejection.candidate_id == candidate.id:
            yield f"rejected by {rejection.filter}: {rejection.reason}"
            return
    trained = [round for round in run.rounds() if _is_trained(run, round, candidate.id)]
    yield (
        f"kept by curation; trained on in rounds {trained}" if trained else "kept by curation; in no mix (over the cap)"
    )


def _is_trained(run: Run, round: int, sample_id: str) -> bool:
    path = run.round_dir(round) / "train.jsonl"
    return is_recorded(path) and any(row.id == sample_id for row in read_rows(path, Row))
