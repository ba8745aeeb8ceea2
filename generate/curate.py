"""Stage `curate`: the filters, in order, over the round's candidates.

    python -m generate.curate --run runs/quickstart --round 1

    candidates.jsonl, recipe_rejected.jsonl -> curated.jsonl, rejected.jsonl, funnel.json, fidelity.json

A candidate goes to the next filter only when the one before kept it, with the changes that one made. Every refusal
keeps its filter and reason. What filters ask of models goes through the journal, so a killed stage asks nothing twice.
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from generate import fidelity, verifiers
from generate.curation import REAL, FilterContext, whole_texts
from synthloop import plugins
from synthloop.child import open_run, run_child, stage_parser
from synthloop.config import PluginRef
from synthloop.embeddings import embed
from synthloop.randomness import derive_seed
from synthloop.records import Candidate, Decision, Rejection
from synthloop.store import Run, read_rows, write_json, write_rows

log = logging.getLogger("synthloop.curate")

NUM_TOLD = 3
MAX_CHARS = 160


def main(arguments: argparse.Namespace) -> None:
    curate_stage(open_run(arguments), arguments.round)


def curate_stage(run: Run, round: int) -> None:
    """Write `curated.jsonl`, `rejected.jsonl` and `funnel.json`, in the order of the candidates and filters."""
    stage = run.stage(round, "curate")
    if stage.is_complete:
        return
    folder = run.round_dir(round)
    with stage.write(_inputs(run, round)) as writer:
        candidates = read_rows(folder / "candidates.jsonl", Candidate)
        refused = read_rows(folder / "recipe_rejected.jsonl", Rejection)
        with FilterContext(run, round) as ctx:
            kept, rejected = curate(candidates, run.config.curate.filters, ctx)
            if run.config.curate.verifier_sample:
                write_json(writer.folder / "verifiers.json", verifier_report(candidates, rejected, ctx))
        funnel = count(candidates, kept, [*refused, *rejected])
        write_rows(writer.folder / "curated.jsonl", kept)
        write_rows(writer.folder / "rejected.jsonl", [*refused, *rejected])
        write_json(writer.folder / "funnel.json", funnel)
        if run.config.curate.fidelity:
            found = fidelity_report(ctx, kept)
            write_json(writer.folder / "fidelity.json", found)
            log.info("fidelity to real train rows: %s", found["summary"])
        writer.notes.update(ctx.usage, error_messages=ctx.error_messages, devices=ctx.devices)
        writer.notes.update({name: funnel[name] for name in ("candidates", "kept", "rejected", "warning")})
    log.info("%d of %d candidates kept; rejected: %s", len(kept), len(candidates), funnel["rejected"] or "none")
    if funnel["warning"]:
        log.warning("%s", funnel["warning"])


def _inputs(run: Run, round: int) -> list[Path]:
    folder = run.round_dir(round)
    earlier = [
        run.round_dir(one) / "curated.jsonl"
        for one in run.rounds()
        if one < round and run.stage(one, "curate").is_complete
    ]
    own = [folder / name for name in ("seeds.jsonl", "candidates.jsonl", "recipe_rejected.jsonl")]
    return [*own, *(run.split(split) for split in REAL), *earlier]


def curate(
    candidates: Sequence[Candidate], filters: Iterable[PluginRef], ctx: FilterContext
) -> tuple[list[Candidate], list[Rejection]]:
    """What all `filters` keep, and a `Rejection` for each that one refused, filter by filter."""
    kept, rejected = list(candidates), []
    for filter_ref in filters:
        module = plugins.load("filter", filter_ref.name)
        decisions: list[Decision] = module.check(module.Config(**filter_ref.settings), kept, ctx)
        assert len(decisions) == len(kept), (filter_ref.name, len(decisions), len(kept))
        judged = list(zip(kept, decisions, strict=True))
        rejected += [_rejection(filter_ref.name, one, decision) for one, decision in judged if not decision.keep]
        kept = [_changed(filter_ref.name, one, decision) for one, decision in judged if decision.keep]
    return kept, rejected


def _changed(name: str, candidate: Candidate, decision: Decision) -> Candidate:
    """The candidate with the filter's score and changes; what a change replaced stays in its lineage."""
    own = {} if decision.score is None else {name: decision.score}
    scores = {**candidate.scores, **decision.scores, **own}
    if not decision.changes:
        return candidate.model_copy(update={"scores": scores})
    replaced = {field: getattr(candidate, field) for field in decision.changes}
    lineage = {**candidate.lineage, "replaced": {**candidate.lineage.get("replaced", {}), name: replaced}}
    values = {**candidate.model_dump(), "scores": scores, "lineage": lineage, **decision.changes}
    return Candidate.model_validate(values)


def _rejection(name: str, candidate: Candidate, decision: Decision) -> Rejection:
    assert decision.reason, f"the filter '{name}' refused {candidate.id} without a reason"
    return Rejection(
        filter=name,
        reason=decision.reason,
        candidate_id=candidate.id,
        seed_id=candidate.seed_id,
        recipe=candidate.recipe,
        score=decision.score,
        candidate=candidate,
    )


def fidelity_report(ctx: FilterContext, kept: Sequence[Candidate]) -> dict[str, Any]:
    """`fidelity.json`: what was kept beside the real train rows; with embeddings where a model for them is named."""
    config, real = ctx.run.config, ctx.real("train")
    points = None
    if config.curate.embedding_model and real and kept:
        ctx.free_device()
        embedded = embed(whole_texts(ctx, [*real, *kept]), config.curate.embedding_model)
        points = embedded[: len(real)], embedded[len(real) :]
    return fidelity.report(real, kept, seed=derive_seed(config.seed, ctx.round, "fidelity"), embeddings=points)


def verifier_report(
    candidates: Sequence[Candidate], rejected: Sequence[Rejection], ctx: FilterContext
) -> dict[str, Any]:
    """`verifiers.json`: what the filters that verify are worth, and the recipes they cannot repair; warns of those."""
    filters = ctx.run.config.curate.filters
    measured = verifiers.report(ctx.run, ctx.round, filters, ctx.run.config.curate.verifier_sample, ctx)
    recipes = verifiers.recipe_errors(candidates, rejected, filters, measured)
    for one in recipes:
        if one["flagged"]:
            log.warning("recipe %s: %s", one["recipe"], one["why"])
    return {**measured, "recipes": recipes}


def count(candidates: Sequence[Candidate], kept: Sequence[Candidate], rejected: Sequence[Rejection]) -> dict[str, Any]:
    """`funnel.json`: how many came in, were kept, and were refused by what, for which kind of reason, from where.

    `most_frequent` has the most frequent kinds in words, each by the first reason of its kind.
    """
    reasons = Counter((one.filter, one.reason.partition(":")[0]) for one in rejected)
    examples = {(one.filter, one.reason.partition(":")[0]): one.reason for one in reversed(rejected)}
    most_frequent = [
        f"{filter}: {examples[filter, kind][:MAX_CHARS]} ({number})"
        for (filter, kind), number in reasons.most_common(NUM_TOLD)
    ]
    return {
        "conversations": len(candidates) + sum(one.candidate is None for one in rejected),
        "candidates": len(candidates),
        "kept": len(kept),
        "rejected": dict(Counter(one.filter for one in rejected)),
        "reasons": [
            {"filter": filter, "kind": kind, "count": number} for (filter, kind), number in reasons.most_common()
        ],
        "most_frequent": most_frequent,
        "by_recipe": _shares([one.recipe for one in candidates], [one.recipe for one in kept]),
        "by_slice": _shares([str(one.slice) for one in candidates], [str(one.slice) for one in kept]),
        "warning": _warning(candidates, kept, most_frequent),
    }


def _shares(before: Sequence[str], after: Sequence[str]) -> dict[str, dict[str, int]]:
    num_before, num_after = Counter(before), Counter(after)
    return {name: {"candidates": num_before[name], "kept": num_after[name]} for name in sorted(num_before)}


def _warning(candidates: Sequence[Candidate], kept: Sequence[Candidate], most_frequent: Sequence[str]) -> str | None:
    if kept or not most_frequent:
        return None
    return (
        f"no sample of this round was kept ({len(candidates)} candidates). Most frequent reasons: "
        f"{'; '.join(most_frequent)}. Read rejected.jsonl; a teacher that answers garbage needs another prompt, "
        "sampling or model."
    )


if __name__ == "__main__":
    run_child(main, parser=stage_parser(__doc__))
