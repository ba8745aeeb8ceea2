"""Take an adapter out of a run, or merge it into its base model.

    python -m train.export --run runs/quickstart --to out                the best round's LoRA adapter
    python -m train.export --run runs/quickstart --to out --merge        a whole model that needs no PEFT
    python -m train.export --run runs/quickstart --to out --round 2      another round's

The folder also gets `README.md` (a model card) and `provenance.json`: the base model, what the adapter was trained on,
its scores on held-out real data with their intervals and gains, and the versions it was made with.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
from pathlib import Path

from synthloop import card
from synthloop.child import run_child, stage_parser
from synthloop.errors import UserError
from synthloop.files import flush, flush_tree
from synthloop.folders import refuse_foreign
from synthloop.store import Run
from train.ends import end_tokens

log = logging.getLogger("synthloop.export")


def export(run: Run, round: int | None, target: Path, merge: bool) -> None:
    """Write the adapter of `round` (the last accepted one where it is None) into the new folder `target`.

    Raises:
        UserError: no round was accepted, the round was not trained, or `target` is not empty.
    """
    number = run.best_round() if round is None else round
    adapter = run.adapter(number)
    if adapter is None:
        raise UserError(
            f"{run.root}: no round was accepted, so the best student is the untouched {run.config.student.model}. "
            "Name a round with --round N to export its adapter all the same."
        )
    if not run.stage(number, "train").is_complete:
        raise UserError(f"{run.root}: round {number} was not trained. Rounds: {', '.join(map(str, run.rounds()))}.")
    refuse_foreign(target, (), "Choose another folder with --to.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        partial = Path(scratch) / target.name
        if merge:
            merge_adapter(run, adapter, partial)
        else:
            shutil.copytree(adapter, partial)
        card.finish(partial, run, number, merged=merge)
        flush_tree(partial)
        if target.exists():
            target.rmdir()
        partial.rename(target)
    flush(target.parent)
    log.info("export: round %d of %s is in %s.", number, run.root, target)


def merge_adapter(run: Run, adapter: Path, folder: Path) -> None:
    """Write the base model with the adapter added to its weights, in the precision the base model is stored in."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    student = run.config.student
    base = AutoModelForCausalLM.from_pretrained(student.model, revision=student.revision, dtype="auto")
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload(safe_merge=True)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    ends = end_tokens(merged, tokenizer, student.settings.get("chat_template_kwargs") or {})
    if ends is not None:
        merged.generation_config.eos_token_id = ends
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(arguments: argparse.Namespace) -> None:
    for option in ("run", "to"):
        if getattr(arguments, option) is None:
            raise UserError(f"--{option} is missing. Expected --run DIR --to DIR [--merge] [--round N].")
    export(Run(arguments.run), arguments.round, arguments.to, arguments.merge)


def parser() -> argparse.ArgumentParser:
    options = stage_parser(__doc__)
    options.add_argument("--to", type=Path, help="a new folder")
    options.add_argument("--merge", action="store_true", help="merge the adapter into the base model")
    return options


if __name__ == "__main__":
    run_child(main, parser=parser())
