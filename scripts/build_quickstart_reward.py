"""Build the quickstart's reward model: the student, tuned to tell right solutions from wrong ones.

    python -m scripts.build_quickstart_reward                  # 2 minutes on one thread; writes quickstart/reward

A `LlamaForSequenceClassification` with one output, trained as a logistic regression on problems that are in neither
'train' nor 'test' (`word_problems.CORPUS`), each with its solution or with a mistake of `wrong_answer`. It is a toy: it
exists so that the filter `reward` can be tried without a download.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from eval.scoring import numeric
from eval.tasks import word_problems
from eval.tasks.word_problems import CORPUS, KINDS
from scripts import tiny_llama
from scripts.build_quickstart_models import MAX_NEW_TOKENS, wrong_answer

SEED = 0
BASE = Path("quickstart/student")
NUM_STEPS, BATCH_SIZE, LEARNING_RATE = 260, 64, 1e-3
"""As long as fits two minutes (chosen, not measured)."""
NUM_TEST = 400


class Labelled(NamedTuple):
    """A problem with an answer, and whether it is right."""

    input: str
    answer: str
    right: bool


def main() -> None:
    """Train, save as bf16, and print what the saved model tells apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("quickstart/reward"))
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=1, dtype=torch.float32)
    train(model, tokenizer)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    print(json.dumps({"seconds": round(time.monotonic() - started), **measure(out)}))


def corpus() -> Iterator[Labelled]:
    """Right and wrong in turn, each of another problem; all kinds alike."""
    rng = Random(f"reward-{SEED}")
    problems = word_problems.draw_problems(CORPUS, SEED + 2, dict.fromkeys(KINDS, 1.0))
    for number, problem in enumerate(problems):
        answer = problem.completion if number % 2 else wrong_answer(problem, rng)
        yield Labelled(problem.input, answer, numeric(problem.answer, answer).correct)


def train(model: Any, tokenizer: Any) -> None:
    """Minimise the binary cross-entropy of the output, in place."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=NUM_STEPS)
    rows = corpus()
    model.train()
    for step in range(NUM_STEPS):
        batch = list(islice(rows, BATCH_SIZE))
        target = torch.tensor([float(one.right) for one in batch])
        loss = nn.functional.binary_cross_entropy_with_logits(rewards(model, tokenizer, batch), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if (step + 1) % 20 == 0:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)


def rewards(model: Any, tokenizer: Any, rows: Sequence[Labelled]) -> torch.Tensor:
    """The outputs, (batch,)."""
    turns = [[{"role": "user", "content": one.input}, {"role": "assistant", "content": one.answer}] for one in rows]
    texts = [tokenizer.apply_chat_template(one, tokenize=False) for one in turns]
    inputs = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
    logits: torch.Tensor = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    return logits[:, 0]


def measure(folder: Path) -> dict[str, Any]:
    """How it tells the gold solutions of 'test' problems from the student's own wrong answers to them: the AUROC."""
    tokenizer, student = tiny_llama.load(BASE)
    problems = list(islice(word_problems.draw_problems("test", SEED), NUM_TEST))
    replies = tiny_llama.reply(student, tokenizer, [one.input for one in problems], MAX_NEW_TOKENS)
    wrong = [
        Labelled(one.input, text, False)
        for one, text in zip(problems, replies, strict=True)
        if not numeric(one.answer, text).correct
    ]
    right = [Labelled(one.input, one.completion, True) for one in problems]
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        high, low = rewards(model, tokenizer, right), rewards(model, tokenizer, wrong)
    wins = (high[:, None] > low[None, :]).float().mean().item()
    return {
        "auroc": round(wins, 3),
        "kept_right_at_0": f"{int((high >= 0).sum())} of {len(right)}",
        "kept_wrong_at_0": f"{int((low >= 0).sum())} of {len(wrong)}",
    }


if __name__ == "__main__":
    main()
