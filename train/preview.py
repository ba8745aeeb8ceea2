"""What a file would be trained on, before anything is: its first rows as the student gets them, and what is left out.

    synthloop check CONFIG --data ROWS.jsonl        with the objective and the settings that CONFIG trains it with

No model is loaded, only its tokenizer.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from synthloop.chat import load_tokenizer
from synthloop.chat_template import one_time
from synthloop.check_models import beyond_vocabulary
from synthloop.child import run_child
from synthloop.config import TrainJob
from synthloop.conversations import Unread
from synthloop.errors import UserError
from synthloop.screen import say, shortened
from train.rows import place_of
from train.run import configure, parser, read_job

NUM_ROWS = 3
"""Rows that are shown; chosen."""


def preview(job: TrainJob, data: Path) -> Iterator[str]:
    """Lines for a person: what was read of `data`, what of it is not used, and the first rows as they are trained.

    Raises:
        UserError: whatever `train --data` would refuse before it loads a model, or for a token the model lacks.
    """
    objective, config = configure(job, Path("checkpoints"), job.seed)
    unread = Unread()
    rows = objective.read(data, unread)
    for row, mistake in beyond_vocabulary(job.student, rows):
        raise UserError(f"{place_of(row)}: {mistake}")
    tokenizer = load_tokenizer(config.tokenizer or config.model, config.revision)
    columns, facts = objective.prepare(config, tokenizer, objective.build_args(config), rows)
    cut = facts["truncated_rows"] + facts.get("split_rows", 0)
    trained = len(next(iter(columns.values())))
    yield f"rows: {len(rows) + unread.num_left_out:,} read, {trained:,} trained on by objective {job.train.objective}"
    if unread.left_out:
        yield f"left out: {unread.left_out}"
    if trained < len(rows):
        yield f"left out: {len(rows) - trained:,} of which train.args.max_length leaves nothing to learn"
    if str(unread):
        yield f"not read: {unread}"
    completions, longest = facts["completion_tokens"], facts["longest_row"]
    yield f"tokens: {facts['tokens']:,}, of completions {completions:,}; longest row {longest:,}"
    if cut:
        yield f"cut: {cut:,} rows do not fit into train.args.max_length as they are"
    for place in range(min(NUM_ROWS, trained)):
        for name, text in objective.show(tokenizer, columns, place).items():
            yield f"row {place + 1}, {name}: {shortened(text)}"


def main(arguments: argparse.Namespace) -> None:
    with one_time():
        for line in preview(read_job(arguments.config, arguments.overrides), arguments.data):
            say(line)
    say(f"{arguments.data}: ok")


if __name__ == "__main__":
    run_child(main, parser=parser())
