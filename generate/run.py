"""Stages `seed` and `generate`: the accepted round's failures to candidates.

    python -m generate.run --run runs/quickstart --round 1

    seed       data/train.jsonl, failures.jsonl of the accepted round -> seeds.jsonl
    generate   seeds.jsonl -> candidates.jsonl, recipe_rejected.jsonl

Both are in the order of the seeds. Stopped and run again, the journal answers what was asked before.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from generate.context import Context, Conversation, Desk, Outcome, Reject
from generate.driver import drive
from generate.prompts import Prompts
from generate.rehearsal import rehearse
from generate.roles import Engines, Roles, refuse_depth, student_plays
from generate.seeds import make_seeds, named_recipes
from synthloop import plugins, progress
from synthloop.child import open_run, run_child, stage_parser
from synthloop.config import Config, Generate, SeedOverride, parse
from synthloop.errors import UserError
from synthloop.journal import Journal
from synthloop.records import Candidate, Example, Failure, Rejection, Seed
from synthloop.refusals import Refusals
from synthloop.store import Run, read_json, read_rows, write_rows
from synthloop.task import open_task

log = logging.getLogger("synthloop.generate")

MOSTLY = 0.5
"""A share of replies cut at `max_tokens` above which that is told (chosen, not measured)."""


def main(arguments: argparse.Namespace) -> None:
    run = open_run(arguments)
    if arguments.round < 1:
        raise UserError(f"--round {arguments.round}: round 0 is the untouched student; generation starts at round 1.")
    seed_stage(run, arguments.round)
    generate_stage(run, arguments.round)


def seed_stage(run: Run, round: int) -> None:
    """Write `seeds.jsonl`.

    Raises:
        UserError: the accepted round has no `failures.jsonl`, or a failure in it is from a held-out split.
    """
    stage = run.stage(round, "seed")
    if stage.is_complete:
        return
    accepted = run.accepted_round(round)
    train, failures = run.split("train"), run.round_dir(accepted) / "failures.jsonl"
    if not failures.exists():
        again = f"synthloop eval --run {run.root} --round {accepted}"
        raise UserError(f"{failures}: no such file. Evaluate that round first: `{again}`.")
    override = run.round_dir(round) / "seed_override.json"
    settings, told = run.config.generate, [override] if override.exists() else []
    if told:
        settings = overridden(settings, parse(SeedOverride, read_json(override), str(override)))
    with stage.write([train, failures, *told]) as writer:
        labels = open_task(run.config.task.name, run.config.task.settings).labels
        seeds, counts = make_seeds(
            settings, read_rows(train, Example), read_rows(failures, Failure), run.config.seed, round, labels
        )
        write_rows(writer.folder / "seeds.jsonl", seeds)
        writer.notes.update(counts)


def overridden(settings: Generate, override: SeedOverride) -> Generate:
    """`settings` with what the loop asks of this round's seeds."""
    shares = override.shares or {}
    named = named_recipes(settings.recipes)
    recipes = tuple(one.model_copy(update={"share": shares.get(name, one.share)}) for name, one in named.items())
    return settings.model_copy(update={"recipes": recipes, "seeds": override.seeds or settings.seeds})


def generate_stage(run: Run, round: int) -> None:
    """Write `candidates.jsonl` and `recipe_rejected.jsonl`, both in the order of the seeds."""
    stage = run.stage(round, "generate")
    if stage.is_complete:
        return
    roles = Roles(run, round)
    adapter = run.adapter(run.accepted_round(round)) if student_plays(run.config) else None
    with stage.write([run.round_dir(round) / "seeds.jsonl", *([adapter] if adapter else [])]) as writer:
        seeds = read_rows(run.round_dir(round) / "seeds.jsonl", Seed)
        if seeds:
            refuse_depth(roles, run.config, round)
            rehearse(seeds, lambda chosen: converse(run.config, roles, chosen, round))
        started, refusals = time.monotonic(), Refusals(run.config.max_error_share, "generate")
        update = progress.updates(len(seeds), "generate")
        with Journal(run.journal_path, f"{round}/generate") as journal, Engines(roles.all_members()) as engines:
            outcomes, counts = drive(
                converse(run.config, roles, seeds, round),
                engines,
                journal,
                refusals=refusals,
                max_in_flight=run.config.generate.max_in_flight,
                on_progress=update,
            )
        candidates, rejections = sort_outcomes(seeds, outcomes)
        write_rows(writer.folder / "candidates.jsonl", candidates)
        write_rows(writer.folder / "recipe_rejected.jsonl", rejections)
        writer.notes.update(
            candidates=len(candidates),
            rejected=len(rejections),
            tokens_by_recipe=tokens_by_recipe(seeds, counts.by_conversation),
            engine_seconds=float(f"{time.monotonic() - started:.3f}"),
            **counts.as_dict(),
            error_messages=refusals.kinds(),
            devices=engines.devices,
        )
    tell(candidates, rejections, writer.notes)


def converse(config: Config, roles: Roles, seeds: Sequence[Seed], round: int) -> Iterator[Conversation]:
    """One conversation for each seed, started when it is taken."""
    named = named_recipes(config.generate.recipes)
    modules = {name: plugins.load("recipe", recipe.name) for name, recipe in named.items()}
    settings = {name: modules[name].Config(**recipe.settings) for name, recipe in named.items()}
    desk = Desk(
        run_seed=config.seed,
        round=round,
        task=open_task(config.task.name, config.task.settings),
        roles=roles,
        prompts=Prompts(config.generate.prompts),
        max_depth=config.generate.max_depth,
    )
    for seed in seeds:
        yield modules[seed.recipe].run(seed, Context(desk, seed, settings[seed.recipe]))


def tokens_by_recipe(seeds: Sequence[Seed], tokens: Sequence[int]) -> dict[str, int]:
    """Recipe, by the name its seeds carry -> the tokens of its conversations."""
    totals: Counter[str] = Counter()
    for seed, number in zip(seeds, tokens, strict=True):
        totals[seed.recipe] += number
    return dict(totals)


def sort_outcomes(seeds: Sequence[Seed], outcomes: Sequence[Outcome]) -> tuple[list[Candidate], list[Rejection]]:
    """The candidates, and a `Rejection` by filter 'recipe' for each conversation that made none."""
    candidates: list[Candidate] = []
    rejections: list[Rejection] = []
    for seed, outcome in zip(seeds, outcomes, strict=True):
        if isinstance(outcome, Candidate):
            candidates.append(outcome)
        elif isinstance(outcome, Reject):
            rejections.append(_refusal(seed, outcome))
        else:
            candidates += [one for one in outcome if isinstance(one, Candidate)]
            rejections += [_refusal(seed, one) for one in outcome if isinstance(one, Reject)]
    return candidates, rejections


def _refusal(seed: Seed, outcome: Reject) -> Rejection:
    return Rejection(filter="recipe", reason=outcome.reason, candidate_id=seed.id, seed_id=seed.id, recipe=seed.recipe)


def tell(candidates: Sequence[Candidate], rejections: Sequence[Rejection], notes: dict[str, int]) -> None:
    """Log what the round gave; a warning where most replies were cut, or the teacher gave nothing at all."""
    log.info(
        "%d candidates, %d refused by their recipe; %d requests (%d from the journal), %d tokens, %d truncated",
        len(candidates), len(rejections), notes["requests"], notes["journal_hits"],
        notes["prompt_tokens"] + notes["completion_tokens"], notes["truncated"],
    )  # fmt: skip
    if notes["truncated"] > MOSTLY * notes["requests"]:
        log.warning(
            "%d of %d replies were cut at max_tokens, so most of what was asked for is lost. Raise max_tokens in the "
            "roles' or the recipes' sampling.",
            *(notes["truncated"], notes["requests"]),
        )
    if rejections and not candidates:
        reasons = Counter(one.reason for one in rejections).most_common(3)
        told = "; ".join(f"{reason} ({number})" for reason, number in reasons)
        log.warning("no conversation gave a candidate. Most frequent reasons: %s", told)


if __name__ == "__main__":
    run_child(main, parser=stage_parser(__doc__))
