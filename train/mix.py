"""Mix real and synthetic rows into what the student trains on.

    python -m train.mix --run runs/quickstart --round 2

Every real row of the `train` split is kept. The verified candidates of rounds 1..N join it, at most
`mix.max_synthetic_ratio` times the real data, counted in tokens (prompt + completion, as the student sees them) or in
rows. Writes `train.jsonl` (`Row`) and `mix.json` (what was asked, what was achieved).

Which candidates are kept when there are more than the cap: rounds share the budget equally (what a round leaves unused
goes to the others) and within a round the order is a seeded hash of the candidate's id. Not newest first, because every
round trains from the base model: what round 1 taught is only in its rows, and dropping them would reopen the failures
they closed. Accumulating real and synthetic data, not replacing either, is also what keeps a loop from collapsing
(Gerstgrasser et al. 2024, arXiv:2404.01413). The hash does not depend on the round, so two rounds keep nested subsets
of the same candidates.
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synthloop.chat import completion_ids, load_tokenizer, prompt_ids
from synthloop.child import open_run, run_child, stage_parser
from synthloop.errors import UserError
from synthloop.mixing import Mix
from synthloop.randomness import derive_seed
from synthloop.records import Candidate, Example, Rejection, Row
from synthloop.store import Run, read_rows, write_json, write_rows

log = logging.getLogger("synthloop.mix")


def real_row(example: Example) -> Row:
    return Row(
        id=example.id,
        source="real",
        messages=example.messages,
        completion=example.completion,
        slice=example.slice,
    )


def synthetic_row(candidate: Candidate) -> Row:
    return Row(
        id=candidate.id,
        source="synthetic",
        messages=candidate.messages,
        completion=candidate.completion,
        round=candidate.round,
        depth=candidate.depth,
        slice=candidate.slice,
        rejected=candidate.rejected,
        weight=candidate.weight,
    )


def token_counter(config: Any) -> Callable[[Row], Row]:
    """A function that fills in `Row.num_tokens` with the student's tokenizer. `config` is a `Student`."""
    settings = config.settings
    tokenizer = load_tokenizer(settings.get("tokenizer") or config.model, config.revision)
    template_kwargs = settings.get("chat_template_kwargs") or {}

    def count(row: Row) -> Row:
        prompt = prompt_ids(tokenizer, row.messages, **template_kwargs)
        completion = completion_ids(tokenizer, row.messages, row.completion, **template_kwargs)
        return row.model_copy(update={"num_tokens": len(prompt) + len(completion)})

    return count


def mix_rows(real: Sequence[Row], synthetic: Sequence[Row], policy: Mix, seed: int, round: int) -> list[Row]:
    """The rows of round `round`, in training order, each with its `num_tokens` already set.

    A function of its arguments alone: the order of `real` and `synthetic` does not matter.
    """
    kept = select(synthetic, policy.max_synthetic_ratio * sum(_sizes(real, policy.unit)), policy.unit, seed)
    rows = [*repeat(real, max((policy.num_rows or 0) - len(kept), len(real)), seed), *kept]
    return sorted(rows, key=lambda row: (derive_seed(seed, round, "mix", "order", row.id), row.id))


def select(rows: Sequence[Row], budget: float, unit: str, seed: int) -> list[Row]:
    """At most `budget` tokens or rows of `rows`, shared equally over their rounds (see the module's docstring).

    A row that no longer fits is passed over and smaller ones after it are still tried, so that one huge row cannot
    block a round.
    """
    queues: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (derive_seed(seed, "mix", "select", row.id), row.id), reverse=True):
        queues.setdefault(row.round, []).append(row)
    used = dict.fromkeys(queues, 0)
    kept = []
    while queues:
        round = min(queues, key=lambda number: (used[number], number))
        row = queues[round].pop()
        (size,) = _sizes([row], unit)
        if sum(used.values()) + size <= budget:
            used[round] += size
            kept.append(row)
        if not queues[round]:
            del queues[round]
    return kept


def repeat(real: Sequence[Row], num_rows: int, seed: int) -> list[Row]:
    """`real`, and further passes over it (the last one cut) until there are `num_rows`; copies are named `id#2`."""
    order = sorted(real, key=lambda row: (derive_seed(seed, "mix", "repeat", row.id), row.id))
    rows = []
    for index in range(num_rows if order else 0):
        row, copy = order[index % len(order)], index // len(order) + 1
        rows.append(row if copy == 1 else row.model_copy(update={"id": f"{row.id}#{copy}"}))
    return rows


def _sizes(rows: Sequence[Row], unit: str) -> list[int]:
    return [row.num_tokens if unit == "tokens" else 1 for row in rows]


def describe(rows: Sequence[Row], real: Sequence[Row], synthetic: Sequence[Row], policy: Mix) -> dict[str, Any]:
    """`mix.json`: asked and achieved side by side. `rows` is the mix, the others what it was made from.

    `real_fraction` and `depth_shares` are shares of tokens; `synthetic_per_real` is in `policy.unit` and over the real
    data before any repetition, as the cap is.
    """
    parts = {source: [row for row in rows if row.source == source] for source in ("real", "synthetic")}
    tokens = {source: sum(row.num_tokens for row in part) for source, part in parts.items()}
    total = sum(tokens.values())
    by_depth: Counter[int] = Counter()
    for row in rows:
        by_depth[row.depth] += row.num_tokens
    return {
        "asked": policy.model_dump(),
        "achieved": {
            "synthetic_per_real": sum(_sizes(parts["synthetic"], policy.unit)) / max(1, sum(_sizes(real, policy.unit)))
        },
        "real_rows": len(parts["real"]),
        "repeated_rows": len(parts["real"]) - len(real),
        "synthetic_rows": len(parts["synthetic"]),
        "real_tokens": tokens["real"],
        "synthetic_tokens": tokens["synthetic"],
        "real_fraction": tokens["real"] / max(1, total),
        "real_fraction_rows": len(parts["real"]) / max(1, len(rows)),
        "max_depth": max(by_depth, default=0),
        "depth_shares": {str(depth): by_depth[depth] / max(1, total) for depth in sorted(by_depth)},
        "by_round": by_round(parts["synthetic"], synthetic),
        "dropped": {"over_cap": len(synthetic) - len(parts["synthetic"])},
    }


def by_round(kept: Sequence[Row], available: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Synthetic rows available and kept, and tokens kept, of each generation round."""
    return {
        str(round): {
            "available": sum(row.round == round for row in available),
            "kept": sum(row.round == round for row in kept),
            "tokens": sum(row.num_tokens for row in kept if row.round == round),
        }
        for round in sorted({row.round for row in available})
    }


def curated_files(run: Run, round: int) -> list[Path]:
    """`curated.jsonl` of rounds 1..`round`. A round of a run without recipes has none.

    Raises:
        UserError: the file is missing though the config has recipes.
    """
    files = [run.round_dir(number) / "curated.jsonl" for number in range(1, round + 1)]
    missing = [path for path in files if not path.is_file()]
    if missing and run.config.generate.recipes:
        raise UserError(
            f"{missing[0]}: no such file, and the mix of round {round} is made from it. "
            "Run `synthloop curate` for that round first."
        )
    return [path for path in files if path.is_file()]


def reviewed(run: Run, curated: list[Candidate], files: Sequence[Path]) -> tuple[list[Candidate], list[Path]]:
    """`curated` after people's decisions (`synthloop review`), and the files that were read for it.

    What they reject goes; what they keep though a filter refused it comes in, in the order of the rounds.
    """
    reviews = run.reviews()
    if not reviews:
        return curated, []
    refused = [path.with_name("rejected.jsonl") for path in files]
    back = [
        one.candidate
        for path in refused
        for one in read_rows(path, Rejection)
        if one.candidate is not None and one.candidate_id in reviews
    ]
    kept = [one for one in [*curated, *back] if one.id not in reviews or reviews[one.id].decision == "keep"]
    return kept, [run.reviews_path, *refused]


def mix_round(run: Run, round: int) -> None:
    """The stage. Raises `UserError` where there is no real row, or a file of an earlier stage is missing."""
    stage = run.stage(round, "mix")
    if stage.is_complete:
        log.info("mix: round %d is already done.", round)
        return
    files = curated_files(run, round)
    count = token_counter(run.config.student)
    real = [count(real_row(example)) for example in read_rows(run.split("train"), Example)]
    if not real:
        raise UserError(f"{run.split('train')}: no real training rows. Check `task` and `splits` in the config.")
    candidates, asked = reviewed(run, [one for path in files for one in read_rows(path, Candidate)], files)
    synthetic = [count(synthetic_row(candidate)) for candidate in candidates]
    with stage.write([run.split("train"), *files, *asked]) as out:
        rows = mix_rows(real, synthetic, run.config.mix, run.config.seed, round)
        facts = describe(rows, real, synthetic, run.config.mix)
        write_rows(out.folder / "train.jsonl", rows)
        write_json(out.folder / "mix.json", facts)
        warnings = notices(facts, run.config.mix)
        out.notes.update(warnings=warnings, rows=len(rows), tokens=facts["real_tokens"] + facts["synthetic_tokens"])
    for warning in warnings:
        log.warning("mix: %s", warning)
    log.info(
        "mix: %d real + %d synthetic rows, %.0f%% of the tokens real (%d candidates over the cap).",
        facts["real_rows"],
        facts["synthetic_rows"],
        100 * facts["real_fraction"],
        facts["dropped"]["over_cap"],
    )


def notices(facts: dict[str, Any], policy: Mix) -> list[str]:
    """What the user should know of a mix that is not what the settings suggest."""
    warnings = []
    if policy.max_synthetic_ratio > 0 and facts["synthetic_rows"] == 0:
        warnings.append("no synthetic row in this round's mix: the student trains on real rows alone.")
    total = facts["real_rows"] + facts["synthetic_rows"]
    if policy.num_rows is not None and total > policy.num_rows:
        warnings.append(f"mix.num_rows is {policy.num_rows}, the mix has {total} rows: num_rows adds rows, never cuts.")
    return warnings


def main(arguments: argparse.Namespace) -> None:
    mix_round(open_run(arguments), arguments.round)


if __name__ == "__main__":
    run_child(main, parser=stage_parser(__doc__))
