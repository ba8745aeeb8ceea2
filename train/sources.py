"""What a round's mix is made from: real examples, curated candidates and replayed rows, as rows of known size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synthloop.chat import completion_ids, load_tokenizer, prompt_ids
from synthloop.config import parse
from synthloop.errors import UserError
from synthloop.mixing import MixOverride
from synthloop.records import Candidate, Example, Rejection, Row
from synthloop.store import Run, read_json, read_rows
from train.replay import Replay, read_replay
from train.rows import synthetic_row


class Sources(NamedTuple):
    """What a round's mix is made from: rows with their weights and counts of tokens, and the files they came from."""

    real: list[Row]
    synthetic: list[Row]
    replayed: list[Row]
    replay: Replay | None
    override: MixOverride | None
    recipes: dict[str, str]
    inputs: list[Path]


def read_sources(run: Run, round: int) -> Sources:
    """The rows that round `round` may train on.

    Raises:
        UserError: no real row, a file of an earlier stage is missing, or `mix.replay` can't be used.
    """
    policy, files = run.config.mix, curated_files(run, round)
    weights, count = policy.weights or {}, token_counter(run.config.student)
    real = [count(weigh(real_row(one), weights, "real")) for one in read_rows(run.split("train"), Example)]
    if not real:
        raise UserError(f"{run.split('train')}: no real training rows. Check `task` and `splits` in the config.")
    candidates, asked = reviewed(run, [one for path in files for one in read_rows(path, Candidate)], files)
    synthetic = [count(weigh(synthetic_row(one), weights, f"recipe:{one.recipe}", "synthetic")) for one in candidates]
    replay = read_replay(run, policy.replay, round) if policy.replay else None
    replayed = [count(weigh(row, weights, "replay")) for row in replay.rows] if replay else []
    override, overridden = read_override(run, round)
    recipes = {one.id: one.recipe for one in candidates}
    inputs = [run.split("train"), *files, *asked, *overridden]
    return Sources(real, synthetic, replayed, replay, override, recipes, inputs)


def real_row(example: Example) -> Row:
    return Row(
        id=example.id,
        source="real",
        messages=example.messages,
        completion=example.completion,
        slice=example.slice,
    )


def weigh(row: Row, weights: Mapping[str, float], *names: str) -> Row:
    """`row` with its weight times that of the first of `names` that `weights` has."""
    found = [weights[name] for name in names if name in weights]
    return row.model_copy(update={"weight": row.weight * found[0]}) if found else row


def token_counter(config: Any) -> Callable[[Row], Row]:
    """A function that fills in a row's counts of tokens, by the student's tokenizer. `config` is a `Student`."""
    settings = config.settings
    tokenizer = load_tokenizer(settings.get("tokenizer") or config.model, config.revision)
    template_kwargs = settings.get("chat_template_kwargs") or {}

    def count(row: Row) -> Row:
        prompt = prompt_ids(tokenizer, row.messages, **template_kwargs)
        completion = completion_ids(tokenizer, row.messages, row.completion, **template_kwargs)
        counts = {"num_tokens": len(prompt) + len(completion), "completion_tokens": len(completion)}
        return row.model_copy(update=counts)

    return count


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

    What they reject goes; what they keep though a filter refused it comes in, in the order of the rounds. Where they
    corrected a sample, it has their words.
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
    corrected = [reviews[one.id].correct(one) if one.id in reviews else one for one in kept]
    return corrected, [run.reviews_path, *refused]


def read_override(run: Run, round: int) -> tuple[MixOverride | None, list[Path]]:
    """What the loop overrides in this round, and the file it says so in, where there is one. Raises `UserError`."""
    path = run.round_dir(round) / "mix_override.json"
    return (parse(MixOverride, read_json(path), str(path)), [path]) if path.exists() else (None, [])
