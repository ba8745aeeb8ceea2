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
from typing import Any

from synthloop import agreement, card
from synthloop.child import run_child, stage_parser
from synthloop.engines._vllm import adapter_modules
from synthloop.errors import StageFailed, UserError
from synthloop.files import flush, flush_tree
from synthloop.folders import refuse_foreign
from synthloop.store import Run
from train.ends import end_tokens
from train.measure import token_logprobs

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
    """Write the base model with the adapter added to its weights, in the precision the base model is stored in.

    Raises:
        StageFailed: what was written, loaded again, is not the model with its adapter.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    student, trained = run.config.student, agreement.read(adapter)
    base = AutoModelForCausalLM.from_pretrained(student.model, revision=student.revision, dtype="auto")
    if embeddings(base) & set(adapter_modules(adapter)):
        untie(base)
    whole = PeftModel.from_pretrained(base, str(adapter)).eval()
    ids = [row.token_ids for row in trained.rows] if trained else []
    before = [token_logprobs(whole, one, whole.device) for one in ids]
    merged, tokenizer = whole.merge_and_unload(safe_merge=True), AutoTokenizer.from_pretrained(adapter)
    ends = end_tokens(merged, tokenizer, student.settings.get("chat_template_kwargs") or {})
    if ends is not None:
        merged.generation_config.eos_token_id = ends
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del base, whole, merged
    merged = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    refuse_other_model(before, [token_logprobs(merged, one, merged.device) for one in ids], str(merged.dtype))


def embeddings(model: Any) -> set[str]:
    """The names of the modules that hold the input and the output embeddings."""
    found = {model.get_input_embeddings(), model.get_output_embeddings()}
    return {name.rpartition(".")[2] for name, module in model.named_modules() if module in found}


def untie(model: Any) -> None:
    """Give the head a matrix of its own where it shares one with the input embeddings: an adapter on one of the two
    would else be merged into both."""
    import torch

    head, inputs = model.get_output_embeddings(), model.get_input_embeddings()
    if head.weight is inputs.weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = False


def refuse_other_model(before: list[list[float]], after: list[list[float]], dtype: str) -> None:
    """Raise `StageFailed` where the merged model's log-probabilities differ by more than rounding."""
    sizes = [abs(x - y) for one, other in zip(before, after, strict=True) for x, y in zip(one, other, strict=True)]
    if not sizes:
        log.warning("export: the training left no %s, so the merged model was not compared.", agreement.FILE)
        return
    mean = sum(sizes) / len(sizes)
    tolerance = agreement.TOLERANCE["float32" if dtype == "torch.float32" else "bfloat16"]
    if not mean <= tolerance:
        raise StageFailed(
            f"The merged model is not the student with its adapter: over {len(sizes)} tokens their log-probabilities "
            f"differ by {mean:.4g} nats on average, and rounding explains {tolerance:g}. Nothing was written. Export "
            "without --merge."
        )


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
