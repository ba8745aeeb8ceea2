"""The model card of an adapter or a merged model, and where its weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthloop.config import Student
from synthloop.engines import adapter_rank, max_lora_rank
from synthloop.integrity import is_recorded
from synthloop.lora import dropped
from synthloop.store import Run, read_json, write_json

HERE = "path/to/this/folder"


def finish(folder: Path, run: Run, round: int, *, merged: bool = False) -> None:
    """Make `folder`, a copy of the adapter of `round` or a model with it merged in, fit to be taken elsewhere: the
    model card, `provenance.json`, and a base model that is found from any directory."""
    facts = provenance(run, round, merged)
    config = folder / "adapter_config.json"
    settings = read_json(config) if config.is_file() else {}
    if "base_model_name_or_path" in settings:
        write_json(config, {**settings, "base_model_name_or_path": facts["base_model"]})
    write_json(folder / "provenance.json", facts)
    (folder / "README.md").write_text(model_card(facts, folder), encoding="utf-8")


def base_model(student: Student) -> str:
    """The student's model: a hub id, or the whole path of a local folder."""
    return str(Path(student.model).resolve()) if Path(student.model).is_dir() else student.model


def provenance(run: Run, round: int, merged: bool) -> dict[str, Any]:
    """Where the weights come from and what they score; parts that the run does not have are None."""
    folder = run.round_dir(round)
    record = run.stage(round, "train").record()
    mix, made_with = folder / "mix.json", run.root / "provenance.json"
    scores = _scores(run, round)
    return {
        "run": run.config.name,
        "round": round,
        "merged": merged,
        "base_model": base_model(run.config.student),
        "base_revision": run.config.student.revision,
        "task": run.config.task.name,
        "training": {key: record.get(key) for key in ("settings", "rows", "steps", "final_loss", "versions")},
        "mix": read_json(mix) if is_recorded(mix) else None,
        "eval": scores["splits"] or None,
        "baseline": _scores(run, 0)["splits"] or None,
        "gains": scores["gains"] or None,
        "made_with": read_json(made_with) if made_with.exists() else None,
    }


def _scores(run: Run, round: int) -> dict[str, Any]:
    """Split -> scores, and split -> the paired gain over the untouched student, as far as they were measured."""
    found: dict[str, Any] = {"splits": {}, "gains": {}}
    for name, pairs in (("scores.json", "paired_baseline"), ("test.json", "paired")):
        path = run.round_dir(round) / "eval" / name
        if is_recorded(path):
            facts = read_json(path)
            found["splits"] |= facts["splits"]
            found["gains"] |= facts.get(pairs, {})
    return found


def model_card(facts: dict[str, Any], folder: Path) -> str:
    """A Hugging Face model card in Markdown. `folder` holds the weights."""
    kind = "base model with the adapter merged in" if facts["merged"] else "LoRA adapter"
    lines = [
        *_head(facts["base_model"], facts["merged"]),
        f"# {facts['run']}, round {facts['round']}",
        "",
        f"A {kind} of `{facts['base_model']}`, fine-tuned for `{facts['task']}` by synthloop.",
        "",
        *_mix_lines(facts["mix"]),
        *_score_lines(facts),
        *(merged_usage() if facts["merged"] else adapter_usage(facts["base_model"], folder)),
    ]
    settings = facts["training"]["settings"]
    if settings and settings.get("train", {}).get("quantization") and facts["merged"]:
        lines += ["Trained on quantized base weights and merged into the unquantized ones: score it anew.", ""]
    return "\n".join([*lines, "All settings and versions are in `provenance.json`.", ""])


def training_card(base: str, objective: str, num_rows: int, folder: Path) -> str:
    """The card of an adapter that was just trained and is not scored yet. `base` is named as the config names it, so
    that the same training gives the same bytes in any directory."""
    told = f"A LoRA adapter of `{base}`, trained ({objective}) on {num_rows} rows by synthloop. Not scored yet."
    return "\n".join([*_head(base, merged=False), "# LoRA adapter", "", told, "", *adapter_usage(base, folder)])


def _head(base: str, merged: bool) -> list[str]:
    library = "transformers" if merged else "peft"
    return [
        "---",
        f"base_model: {base}",
        f"library_name: {library}",
        "tags: [synthloop, lora, synthetic-data]",
        "---",
        "",
    ]


def adapter_usage(base: str, folder: Path) -> list[str]:
    """How to load an adapter with PEFT, and how to serve it with vLLM where that applies all of it; with its own end
    tokens, where it has some."""
    config = read_json(folder / "adapter_config.json")
    stops = (folder / "generation_config.json").is_file()
    rank = max_lora_rank(adapter_rank(folder)) if "r" in config else 16
    serve = f"vllm serve {base} --enable-lora --max-lora-rank {rank} --lora-modules adapter={HERE}"
    serve += f" --generation-config {HERE}" if stops else ""
    return [
        "```python",
        "from peft import AutoPeftModelForCausalLM",
        f"from transformers import AutoTokenizer{', GenerationConfig' if stops else ''}",
        "",
        f'model = AutoPeftModelForCausalLM.from_pretrained("{HERE}")',
        f'tokenizer = AutoTokenizer.from_pretrained("{HERE}")',
        *([f'model.generation_config = GenerationConfig.from_pretrained("{HERE}")'] if stops else []),
        "```",
        "",
        *([] if dropped(config) else ["```sh", serve, "```", ""]),
    ]


def merged_usage() -> list[str]:
    """How to load a whole model with transformers, and how to serve it with vLLM."""
    return [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'model = AutoModelForCausalLM.from_pretrained("{HERE}")',
        f'tokenizer = AutoTokenizer.from_pretrained("{HERE}")',
        "```",
        "",
        "```sh",
        f"vllm serve {HERE}",
        "```",
        "",
    ]


def _mix_lines(mix: dict[str, Any] | None) -> list[str]:
    if mix is None:
        return []
    return [
        f"Trained on {mix['real_rows']} real and {mix['synthetic_rows']} synthetic rows "
        f"({mix['real_fraction']:.0%} of the tokens real, generation depth at most {mix['max_depth']}).",
        "",
    ]


def _score_lines(facts: dict[str, Any]) -> list[str]:
    splits, baseline, gains = (facts[name] or {} for name in ("eval", "baseline", "gains"))
    if not splits:
        return []
    rows = [
        f"| {name} | {one['metric']} | {one['value']:.4f} | {one['ci_low']:.4f} to {one['ci_high']:.4f} | {one['n']} | "
        f"{_baseline(baseline.get(name))} | {_gain(gains.get(name))} |"
        for name, one in splits.items()
    ]
    heading = "| held-out real data | metric | value | interval | n | untouched student | gain, interval |"
    return [heading, "|---|---|---|---|---|---|---|", *rows, ""]


def _baseline(scores: dict[str, Any] | None) -> str:
    return f"{scores['value']:.4f}" if scores else "-"


def _gain(paired: dict[str, Any] | None) -> str:
    return "{gain:+.4f}, {ci_low:+.4f} to {ci_high:+.4f}".format(**paired) if paired else "-"
