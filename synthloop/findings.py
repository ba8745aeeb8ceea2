"""What `check` found beside mistakes: rows, labels, prompts, the size of a round, and what it could not look at."""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from synthloop import hub, upstream
from synthloop.chat_template import read_chat_template
from synthloop.check_data import Rows, context, num_tokens, prompt_sizes
from synthloop.check_models import folders, tokenizer_folder, unknown_tokens
from synthloop.check_recipes import Rehearsal
from synthloop.config import Config
from synthloop.records import Message, Request
from synthloop.screen import shortened
from synthloop.splits import HELD_OUT

MAX_NAMED = 8
"""Labels, slices or warnings that are printed one by one."""
CHARACTERS_A_TOKEN = 4
"""Of English text, about: for models whose tokenizer is not at hand."""


class Findings:
    """Lines of (what, found) to print, and the mistakes that only the hub knows of."""

    def __init__(self, config: Config, rows: Rows, rehearsal: Rehearsal, online: bool) -> None:
        """Of a config without mistakes so far. `online` asks the hub for what is not local."""
        remote = list(hub.named(config))
        said = [(one, hub.ask(one)) for one in remote] if online else []
        self.mistakes = [f"'{one.path}': {answer.mistake}" for one, answer in said if answer.mistake]
        self.lines = [
            *_rows(rows),
            *_first_row(config, rows),
            *_prompts(config, rows),
            *_round(config, rehearsal),
            *_training(config, rows),
            *(("model", f"{path}: {role.settings['model']}") for path, role, _ in folders(config)),
            *(("hub", f"{one.name}: {answer.found}") for one, answer in said),
            *(("warning", one) for one in [*first(rows.warnings), *unknown_tokens(config)]),
            *(("not looked at", one) for one in _unseen(rows, [] if online else remote)),
        ]

    def __str__(self) -> str:
        """An aligned block; a label is printed once for the lines that share it."""
        width = max((len(label) for label, _ in self.lines), default=0)
        previous, text = "", []
        for label, found in self.lines:
            text.append(f"  {'' if label == previous else label:<{width}}  {found}")
            previous = label
        return "\n".join(text)


def _rows(rows: Rows) -> Iterator[tuple[str, str]]:
    if not rows.splits:
        return
    yield "rows", ", ".join(f"{name} {len(rows.splits[name]):,}" for name in ("train", *HELD_OUT))
    examples = [one for split in rows.splits.values() for one in split]
    groups = Counter(one.slice for one in examples if one.slice is not None)
    if "labels" in (rows.task.config.variables() if rows.task else {}):
        yield "labels", _counts(Counter(str(one.answer) for one in examples))
    elif groups:
        yield "slices", _counts(groups)


def first(lines: Sequence[str]) -> list[str]:
    """`MAX_NAMED` of the lines; the last says how many more there are."""
    return [*lines[:MAX_NAMED], *([f"and {len(lines) - MAX_NAMED:,} more"] if len(lines) > MAX_NAMED else [])]


def _counts(counter: Counter[str]) -> str:
    named = ", ".join(f"{name} {number:,}" for name, number in counter.most_common(MAX_NAMED))
    return named if len(counter) <= MAX_NAMED else f"{named}, and {len(counter) - MAX_NAMED:,} more"


def _first_row(config: Config, rows: Rows) -> Iterator[tuple[str, str]]:
    """A real row as the student is trained on it, where its template is at hand: a wrong field shows at a glance."""
    template = read_chat_template(tokenizer_folder(config.student))
    if template is None or not rows.splits.get("train"):
        return
    first, kwargs = rows.splits["train"][0], config.student.settings.get("chat_template_kwargs") or {}
    turns = [*first.messages, Message(role="assistant", content=first.completion)]
    prompt = template.render(first.messages, generation_prompt=True, **kwargs)
    completion = template.render(turns, generation_prompt=False, **kwargs)[len(prompt) :]
    if completion.rstrip().endswith(first.completion.strip()):  # closed by the tokenizer's end token (chat.py)
        completion += dict(template.tokens).get("eos_token", "")
    yield "first row", f"prompt {shortened(prompt)}"
    yield "", f"completion {shortened(completion)}"


def _prompts(config: Config, rows: Rows) -> Iterator[tuple[str, str]]:
    sizes, limit = prompt_sizes(config, rows), context(config)
    reply = config.eval.sampling.get("max_tokens")
    if sizes:
        room = f" of a context of {limit:,}" if limit is not None else ""
        cut = limit is not None and isinstance(reply, int) and sizes[0][0] + reply > limit
        note = " (together too long: such replies will be cut)" if cut else ""
        yield "longest prompt", f"{sizes[0][0]:,} tokens, and up to {reply} for the reply,{room}{note}"


def _round(config: Config, rehearsal: Rehearsal) -> Iterator[tuple[str, str]]:
    """Requests and tokens of a round, from what the rehearsed conversations asked."""
    played = [talk for recipe in rehearsal.requests for talk in recipe]
    if not played or len(rehearsal.requests) != len(config.generate.recipes):
        return
    shares = [one.share for one in config.generate.recipes]
    asked = given = written = 0.0
    for share, talks in zip(shares, rehearsal.requests, strict=True):
        weight = config.generate.num_seeds * share / sum(shares) / max(len(talks), 1)
        requests = [one for talk in talks for one in talk]
        asked += weight * len(requests)
        given += weight * sum(_size(config, one) for one in requests)
        written += weight * sum(_limit(one) for one in requests)
    yield "a round", f"{config.generate.num_seeds:,} seeds, about {_rounded(asked)} requests of the recipes"
    yield (
        "",
        (
            f"about {_rounded(given)} tokens of prompts, at most {_rounded(written)} of replies "
            f"(estimated from {len(played)} rehearsed conversations)"
        ),
    )


def _size(config: Config, request: Request) -> float:
    role = next(iter(config.committee(request.role)))
    size = num_tokens(config.student if role.is_student else role, request.messages)
    return size if size is not None else sum(len(one["content"]) for one in request.messages) / CHARACTERS_A_TOKEN


def _limit(request: Request) -> int:
    """The most tokens a reply may have; 256 where the recipe leaves it to the context."""
    limit = request.sampling.get("max_tokens")
    return limit if isinstance(limit, int) else 256


def _rounded(number: float) -> str:
    """Two digits that count, as an estimate has no more."""
    digits = max(0, int(math.log10(number)) - 1) if number >= 1 else 0
    return f"{round(number / 10**digits) * 10**digits:,}"


def _training(config: Config, rows: Rows) -> Iterator[tuple[str, str]]:
    """Steps of a round, if every seed gave a row and the mix took them all up to its ratio."""
    args, real = config.train.args, len(rows.splits.get("train", []))
    if not real:
        return
    synthetic = config.generate.num_seeds if config.generate.recipes else 0
    batch = args.get("per_device_train_batch_size", 8) * args.get("gradient_accumulation_steps", 1)
    epochs = args.get("num_train_epochs", 3)
    fewest, most = (math.ceil(math.ceil(rows / batch) * epochs) for rows in (real, real + synthetic))
    steps = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    if args.get("max_steps", -1) > 0:
        steps = f"{args['max_steps']:,}"
    yield (
        "training",
        (
            f"{steps} steps a round and process: batches of {batch}, {epochs} epochs over {real:,} real rows"
            + (f" and up to {synthetic:,} synthetic ones of round 1" if synthetic else "")
            + " (estimated)"
        ),
    )


def _unseen(rows: Rows, remote: Sequence[hub.Named]) -> Iterator[str]:
    packages = {"sft_config": "trl", "lora_config": "peft", "engine_args": "vllm"}
    absent = sorted({package for kind, package in packages.items() if upstream.accepted(kind) is None})  # type: ignore[arg-type]
    if absent:
        yield f"names and values of settings of {', '.join(absent)}: not installed here"
    if importlib.util.find_spec("tokenizers") is None:
        yield "lengths of prompts in tokens: the package tokenizers is not installed here"
    if rows.hub is not None and not Path(rows.hub).exists():
        yield f"the rows of the hub's data set {rows.hub}, and with them the splits and the recipes on them"
    elif rows.hub is not None:
        yield f"the rows in {rows.hub}, which needs the package datasets, and with them the splits and the recipes"
    if remote:
        names = ", ".join(dict.fromkeys(one.name for one in remote))
        yield f"on the Hugging Face hub: {names}. `synthloop check --online` asks it"
