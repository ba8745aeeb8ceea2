"""Take an adapter out of a run, or merge it into its base model.

    python -m train.export --run runs/quickstart --to out                the best round's LoRA adapter
    python -m train.export --run runs/quickstart --to out --merge        a whole model that needs no PEFT
    python -m train.export --run runs/quickstart --to out --round 2      another round's

The folder also gets `README.md` (a model card) and `provenance.json`: the base model, what the adapter was trained on,
its scores on held-out real data with their intervals, and the versions it was made with.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from pathlib import Path
from typing import Any

from synthloop.child import run_child, stage_parser
from synthloop.errors import UserError
from synthloop.files import flush, flush_tree
from synthloop.integrity import is_recorded
from synthloop.store import Run, read_json, write_json

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
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target} is not empty. Choose another folder with --to.")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    if merge:
        merge_adapter(run, adapter, partial)
    else:
        shutil.copytree(adapter, partial)
    facts = provenance(run, number, merge)
    write_json(partial / "provenance.json", facts)
    (partial / "README.md").write_text(model_card(facts), encoding="utf-8")
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
    merged.save_pretrained(folder)
    AutoTokenizer.from_pretrained(adapter).save_pretrained(folder)


def provenance(run: Run, round: int, merged: bool) -> dict[str, Any]:
    """Where the exported weights come from; parts that the run does not have are None."""
    folder = run.round_dir(round)
    record = run.stage(round, "train").record()
    scores = [folder / "eval" / name for name in ("scores.json", "test.json")]
    splits: dict[str, Any] = {}
    for path in scores:
        splits |= read_json(path)["splits"] if is_recorded(path) else {}
    mix, provenance_path = folder / "mix.json", run.root / "provenance.json"
    return {
        "run": run.config.name,
        "round": round,
        "merged": merged,
        "base_model": run.config.student.model,
        "base_revision": run.config.student.revision,
        "task": run.config.task.name,
        "training": {key: record.get(key) for key in ("settings", "rows", "steps", "final_loss", "versions")},
        "mix": read_json(mix) if is_recorded(mix) else None,
        "eval": splits or None,
        "made_with": read_json(provenance_path) if provenance_path.exists() else None,
    }


def model_card(facts: dict[str, Any]) -> str:
    """A Hugging Face model card in Markdown."""
    kind = "base model with the adapter merged in" if facts["merged"] else "LoRA adapter"
    lines = [
        "---",
        f"base_model: {facts['base_model']}",
        "library_name: " + ("transformers" if facts["merged"] else "peft"),
        "tags: [synthloop, lora, sft, synthetic-data]",
        "---",
        "",
        f"# {facts['run']}, round {facts['round']}",
        "",
        f"A {kind} of `{facts['base_model']}`, fine-tuned for `{facts['task']}` by synthloop.",
        "",
        *_mix_lines(facts["mix"]),
        *_score_lines(facts["eval"]),
    ]
    if facts["training"]["settings"] and facts["training"]["settings"]["train"]["quantization"] and facts["merged"]:
        lines += ["Trained on quantized base weights and merged into the unquantized ones: score it anew.", ""]
    return "\n".join([*lines, "All settings and versions are in `provenance.json`.", ""])


def _mix_lines(mix: dict[str, Any] | None) -> list[str]:
    if mix is None:
        return []
    return [
        f"Trained on {mix['real_rows']} real and {mix['synthetic_rows']} synthetic rows "
        f"({mix['real_fraction']:.0%} of the tokens real, generation depth at most {mix['max_depth']}).",
        "",
    ]


def _score_lines(splits: dict[str, Any] | None) -> list[str]:
    if not splits:
        return []
    rows = [
        f"| {name} | {one['metric']} | {one['value']:.4f} | {one['ci_low']:.4f} to {one['ci_high']:.4f} | {one['n']} |"
        for name, one in splits.items()
    ]
    return ["| held-out real data | metric | value | interval | n |", "|---|---|---|---|---|", *rows, ""]


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
