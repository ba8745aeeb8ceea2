"""Build the teacher and the student of the quickstart from nothing but the task's own generator.

    python -m scripts.build_quickstart_models                 # both, side by side, one thread each; then the README
    python -m scripts.build_quickstart_models --only student --out /tmp/models

Both are Llamas trained from scratch on problems that are in neither 'train' nor 'test' (`word_problems.CORPUS`). The
teacher learns to solve every kind, and to answer the three prompts of `configs/prompts/quickstart/` with a new problem.
The student learns to solve the kinds of one step and to do bare sums; of the other kinds it has read many problems and
seen hardly any solved. So it has the skills that they take and not the way to put them together, as a small pretrained
model has before it is tuned.

They are toys. They exist so that a real loop can be watched for a few minutes on a laptop.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

import torch
from transformers import PreTrainedTokenizerFast

from eval.scoring import numeric
from eval.tasks import word_problems
from eval.tasks.word_problems import CORPUS, KINDS, Problem
from generate.prompts import Prompts
from scripts import tiny_llama
from scripts.tiny_llama import Pair, Schedule, Shape
from synthloop.records import Seed
from synthloop.task import make_example

PROMPTS = Path(__file__).resolve().parents[1] / "configs" / "prompts" / "quickstart"
SEED = 0
VOCAB_SIZE = 640
MAX_NEW_TOKENS = 56
NUM_TEST = 1000

TASK = word_problems.Config()


class Recipe(NamedTuple):
    """One model: its size, how long it trains on bare sums and then on conversations, and how many of each it sees."""

    shape: Shape
    sums: Schedule
    conversations: Schedule
    num_solve: int
    num_write: int
    solve_weights: dict[str, float]
    targets: Literal["completion", "all"]


# Sizes and lengths were chosen so that both together take less than 15 minutes on two cores.
RECIPES = {
    "teacher": Recipe(
        shape=Shape(160, 4, 480),
        sums=Schedule(num_steps=300, batch_tokens=2048),
        conversations=Schedule(num_steps=800, batch_tokens=4096),
        num_solve=45_000,
        num_write=30_000,
        solve_weights={"total": 1, "left": 1, "groups": 0.7, "change": 1.3, "compare": 2, "share": 1, "times": 2},
        targets="all",
    ),
    "student": Recipe(
        shape=Shape(128, 3, 384),
        sums=Schedule(num_steps=500, batch_tokens=2048),
        conversations=Schedule(num_steps=300, batch_tokens=2048),
        num_solve=20_000,
        num_write=6_000,
        solve_weights={kind: 1.0 if len(KINDS[kind].steps) == 1 else 0.01 for kind in KINDS},
        targets="completion",
    ),
}


def main() -> None:
    """Parse the command line; build one model in this process, or both as two processes and write the README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("quickstart"), help="folder to write teacher/ and student/ to")
    parser.add_argument("--only", choices=list(RECIPES), help="build this one alone, and print its numbers as JSON")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(build(args.only, args.out / args.only)))
        return
    started = time.monotonic()
    command = [sys.executable, "-m", "scripts.build_quickstart_models", "--out", str(args.out)]
    measured = tiny_llama.build_side_by_side(command, list(RECIPES))
    report = readme(measured, time.monotonic() - started)
    (args.out / "README.md").write_text(report, encoding="utf-8")
    print(report)


def build(name: str, folder: Path) -> dict[str, Any]:
    """Train the model `name`, save it as bf16 to `folder`, and measure what was saved."""
    torch.set_num_threads(1)
    recipe = RECIPES[name]
    started = time.monotonic()
    tokenizer = build_tokenizer()
    model = tiny_llama.build_model(tokenizer, recipe.shape, SEED)
    tiny_llama.train(model, tokenizer, list(islice(sums(Random(f"sums-{SEED}")), 20_000)), recipe.sums, SEED)
    solving = solve_pairs(recipe.solve_weights, recipe.targets)
    pairs = [*islice(solving, recipe.num_solve), *islice(write_pairs(), recipe.num_write)]
    loss = tiny_llama.train(model, tokenizer, pairs, recipe.conversations, SEED)
    seconds = time.monotonic() - started
    tiny_llama.save(model, tokenizer, folder)
    return {"seconds": seconds, "loss": loss, "parameters": model.num_parameters(), **measure(folder)}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer that both models share: every word of the task and of the prompts is one token."""
    pairs = [*islice(solve_pairs(None, "all"), 6000), *islice(write_pairs(), 2000)]
    return tiny_llama.build_tokenizer((f"{pair.prompt}\n{pair.completion}" for pair in pairs), VOCAB_SIZE)


def sums(rng: Random) -> Iterator[Pair]:
    """Lists of eight sums, each one a step of some solution."""
    steps: list[str] = []
    for problem in word_problems.draw_problems(CORPUS, SEED, dict.fromkeys(KINDS, 1.0)):
        steps += re.findall(r"\d+[-+*/]\d+=\d+\.", problem.completion)
        if len(steps) >= 8:
            rng.shuffle(steps)
            yield Pair("", " ".join(steps[:8]), targets="results")
            steps = steps[8:]


def solve_pairs(
    weights: dict[str, float] | None = None, targets: Literal["completion", "all"] = "all"
) -> Iterator[Pair]:
    """Problems with their solutions, as the student is asked and as `solve.jinja` asks."""
    for problem in word_problems.draw_problems(CORPUS, SEED, weights):
        yield Pair(problem.input, problem.completion, targets)


def write_pairs() -> Iterator[Pair]:
    """The three prompts that ask for a new problem, with one: of the same kind, or for `explore` of any other kind."""
    rng = Random(f"write-{SEED}")
    prompts = Prompts(PROMPTS)
    problems = {kind: word_problems.draw_problems(CORPUS, SEED + 1, {kind: 1.0}) for kind in KINDS}
    while True:
        kind = rng.choice(list(KINDS))
        template = rng.choices(["repair.jinja", "variation.jinja", "explore.jinja"], [0.5, 0.3, 0.2])[0]
        wanted = rng.choice([other for other in KINDS if other != kind]) if template == "explore.jinja" else kind
        shown, written = next(problems[kind]), next(problems[wanted])
        response = wrong_answer(shown, rng) if template == "repair.jinja" else None
        (message,) = prompts.render(template, seed=seed_of(shown, response))
        yield Pair(message["content"], written.input)


def seed_of(problem: Problem, response: str | None) -> Seed:
    """The seed a recipe would start from, with `response` as the student's wrong answer."""
    example = make_example(TASK, input=problem.input, completion=problem.completion, answer=problem.answer)
    return Seed(id="seed", recipe="build", example=example, response=response)


def wrong_answer(problem: Problem, rng: Random) -> str:
    """What a student might write instead: a step left out, a number changed, or the first two numbers just combined."""
    lines = problem.completion.split("\n")
    mistake = rng.choice(["skip", "slip", "guess"])
    if mistake == "skip" and len(lines) > 2:
        return "\n".join([*lines[:-2], "#### " + lines[-3].rstrip(".").split("=")[1]])
    if mistake == "slip":
        return re.sub(r"=\d+", lambda found: f"={int(found[0][1:]) + rng.choice([-10, -1, 1, 10])}", problem.completion)
    first, second = (int(number) for number in re.findall(r"\d+", problem.input)[:2])
    label, sign, result = rng.choice(
        [("Total", "+", first + second), ("Left", "-", first - second), ("Total", "*", first * second)]
    )
    return f"{label}: {first}{sign}{second}={result}.\n#### {result}"


def measure(folder: Path) -> dict[str, Any]:
    """What the saved model gets right on 'test', greedily and by the task's scorer, kind by kind."""
    tokenizer, model = tiny_llama.load(folder)
    problems = list(islice(word_problems.draw_problems("test", SEED), NUM_TEST))
    replies = tiny_llama.reply(model, tokenizer, [problem.input for problem in problems], MAX_NEW_TOKENS)
    right: dict[str, list[bool]] = defaultdict(list)
    for problem, text in zip(problems, replies, strict=True):
        right[problem.kind].append(numeric(problem.answer, text).correct)
    return {"right": {kind: [sum(marks), len(marks)] for kind, marks in sorted(right.items())}}


def readme(measured: dict[str, Any], seconds: float) -> str:
    """The file beside the models: what they are, how they were made, what was measured."""
    return f"""# The quickstart's models

Two Llamas of a few megabytes, made from nothing so that the quickstart needs no download. **They are toys**: they know
arithmetic word problems in a few dozen sentence frames, with numbers below 100, and nothing else. They exist so that a
real loop (vLLM, TRL, PEFT, evaluation) can be watched for some minutes on a laptop.

    python -m scripts.build_quickstart_models    # seed {SEED}, {seconds / 60:.1f} minutes on two shared CPU cores

Right answers to {NUM_TEST} problems of the task `word_problems`, split 'test', seed {SEED}: greedy, the weights as
shipped (bf16, read as fp32), neither model trained on any problem of 'train' or 'test'.
The settings of the build were chosen by such numbers, so take them as what the models do, not as a held-out result.

{tiny_llama.accuracy_table(measured)}

(`seconds` is each model's training, the two side by side on one thread each. Built again on the same
machine, the weights were the same bytes; another processor or release of PyTorch gives others.)

The teacher also answers the prompts of `configs/prompts/quickstart/` with a new problem. The student has seen all
kinds of problem, the solutions of the one-step kinds (`total`, `left`, `groups`), bare sums, and about one solution in
a hundred of another kind: `scripts/build_quickstart_models.py` says it exactly.

Both have the same tokenizer (byte-level BPE, every digit one token) and chat template (system, user and assistant
turns, `<|end|>` after each). Made by this project's own script; Apache-2.0 like the rest.
"""


if __name__ == "__main__":
    main()
