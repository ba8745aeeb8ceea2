"""Build a teacher and a student for `configs/inflection.yaml` from the published rows (English, CoNLL 2017).

    python -m scripts.build_inflection_models --data ../shared/data/inflection --out runs/models/inflection

Both are Llamas trained from scratch, one token a character. The teacher has about 2 million parameters; it learns all
10,000 rows of `english-train-high`, and to answer the prompts of `configs/prompts/inflection/` with a new lemma and
tags. The student has 0.2 million and the 1,000 rows of `english-train-medium`, which are among the teacher's. Both are
measured on `english-dev`; the test file is not read. The numbers go to standard output and to `<out>/README.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerFast

from eval.tasks import inflection
from generate.prompts import Prompts
from scripts import tiny_llama
from scripts.tiny_llama import Pair, Schedule, Shape
from synthloop.records import Example, Seed

PROMPTS = Path(__file__).resolve().parents[1] / "configs" / "prompts" / "inflection"
SEED = 0
VOCAB_SIZE = 320
MAX_NEW_TOKENS = 40
MAX_LENGTH = 256


class Recipe(NamedTuple):
    """One model: its rows, its size, how long it trains, and how many conversations ask it for a new word."""

    train_file: str
    shape: Shape
    schedule: Schedule
    num_write: int


RECIPES = {
    "teacher": Recipe("english-train-high", Shape(192, 4, 544), Schedule(num_steps=1000, batch_tokens=2048), 10_000),
    "student": Recipe("english-train-medium", Shape(96, 2, 256), Schedule(num_steps=700, batch_tokens=1024), 0),
}


def main() -> None:
    """Build one model in this process, or both as two processes, one thread each, and write down their numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the published files")
    parser.add_argument("--out", type=Path, default=Path("runs/models/inflection"))
    parser.add_argument("--only", choices=list(RECIPES), help="build this one alone, and print its numbers as JSON")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(build(args.only, args.data, args.out / args.only)))
        return
    measured = tiny_llama.build_side_by_side(
        [sys.executable, "-m", "scripts.build_inflection_models", "--data", str(args.data), "--out", str(args.out)],
        list(RECIPES),
    )
    report = readme(measured)
    (args.out / "README.md").write_text(report, encoding="utf-8")
    print(report)


def build(name: str, data: Path, folder: Path) -> dict[str, Any]:
    """Train the model `name`, save it as bf16 to `folder`, and measure what was saved on 'validation'."""
    torch.set_num_threads(1)
    recipe = RECIPES[name]
    task = inflection.Config(path=data, train_file=recipe.train_file)
    rows = list(inflection.load(task, "train"))
    started = time.monotonic()
    tokenizer = build_tokenizer(rows)
    pairs = [Pair(row.input, row.completion) for row in rows]
    pairs += islice(write_pairs(rows), recipe.num_write)
    model = tiny_llama.build_model(tokenizer, recipe.shape, SEED)
    loss = tiny_llama.train(model, tokenizer, pairs, recipe.schedule, SEED)
    seconds = time.monotonic() - started
    tiny_llama.save(model, tokenizer, folder)
    measured = measure(task, folder)
    return {"seconds": seconds, "loss": loss, "parameters": model.num_parameters(), "rows": len(rows), **measured}


def build_tokenizer(rows: list[Example]) -> PreTrainedTokenizerFast:
    """Bytes, and merges for the tags and the capitals of the prompts alone, so that a lemma is one token a letter."""
    tags = sorted({f" {row.slice}" for row in rows})
    return tiny_llama.build_tokenizer([*tags, "NEW WORD LIKE: UNLIKE:\nRIGHT:\nWRONG: "] * 10, VOCAB_SIZE, MAX_LENGTH)


def write_pairs(rows: list[Example]) -> Iterator[Pair]:
    """The three prompts that ask for a new word, answered by another real row.

    'repair' and 'variation' get one with the same tags and, where there are any, the same last two letters: how a word
    ends decides most of how it inflects. 'explore' gets any row with other tags.
    """
    rng = Random(f"write-{SEED}")
    prompts = Prompts(PROMPTS)
    alike: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for row in rows:
        alike[(str(row.slice), "")].append(row)
        alike[(str(row.slice), ending(row))].append(row)
    while True:
        row = rng.choice(rows)
        template = rng.choices(["repair.jinja", "variation.jinja", "explore.jinja"], [0.5, 0.3, 0.2])[0]
        family = alike[(str(row.slice), ending(row))]
        other = rng.choice(family if len(family) > 1 else alike[(str(row.slice), "")])
        if template == "explore.jinja":
            other = rng.choice([one for one in rng.choices(rows, k=50) if one.slice != row.slice])
        response = wrong_form(row, rng) if template == "repair.jinja" else None
        (message,) = prompts.render(template, seed=Seed(id="seed", recipe="build", example=row, response=response))
        if other is not row:
            yield Pair(message["content"], other.input)


def ending(row: Example) -> str:
    """The last two letters of the lemma."""
    return row.input.split(" ")[0][-2:]


def wrong_form(row: Example, rng: Random) -> str:
    """What a student might write instead: another ending, or a letter left out or doubled."""
    lemma, form = row.input.split(" ")[0], row.completion
    position = rng.randrange(len(form))
    wrong = [lemma + ending for ending in ("", "s", "es", "ed", "d", "ing")]
    wrong += [form[:position] + form[position + 1 :], form[:position] + form[position] + form[position:]]
    return rng.choice([one for one in wrong if one != form])


def measure(task: inflection.Config, folder: Path) -> dict[str, Any]:
    """(right, asked) of the saved model on 'validation', greedily, by tags."""
    tokenizer, model = tiny_llama.load(folder)
    rows = list(inflection.load(task, "validation"))
    replies = tiny_llama.reply(model, tokenizer, [row.input for row in rows], MAX_NEW_TOKENS)
    right: dict[str, list[bool]] = defaultdict(list)
    for row, text in zip(rows, replies, strict=True):
        right[str(row.slice)].append(inflection.score(task, row, text).correct)
    return {"right": {tags: [sum(marks), len(marks)] for tags, marks in sorted(right.items())}}


def readme(measured: dict[str, Any]) -> str:
    """The file beside the models: how they were made and what was measured."""
    return f"""# Teacher and student for English inflection

    python -m scripts.build_inflection_models    # seed {SEED}

Exact match on `english-dev` (greedy, bf16 weights read as fp32). The test file was not read.

{tiny_llama.accuracy_table(measured)}

(`seconds` is each model's training, the two side by side on one thread each.)
"""


if __name__ == "__main__":
    main()
