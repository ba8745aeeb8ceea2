"""Train a Llama of about a million parameters from scratch, on CPU, in minutes. Used by `build_quickstart_models.py`
and `build_inflection_models.py`.

The result is an ordinary Hugging Face folder: `LlamaForCausalLM` in safetensors, a byte-level BPE tokenizer that gives
every digit its own token, and a chat template with system, user and assistant turns. Heads are 32 wide or wider: vLLM's
CPU attention dies below that.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from eval.stats import wilson

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
HEAD_DIM = 32

# A turn is its role's token, the text, and the end token, which is also the end of sequence: what the model writes
# after the assistant's token stops there. No BOS: a template rendered to text and tokenized again gives the same ids.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('Unknown role: ' + message['role']) -}}"
    "{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


class Pair(NamedTuple):
    """One training conversation: a user turn and what the assistant should reply.

    `targets` says what the loss is on. With 'results' it is what stands between each `=` and the `.` after it, so that
    a list of random sums trains nothing but adding up: several times faster than learning it from whole solutions.
    With 'all' it is the prompt too, which teaches a model that will write problems how they hold together.
    """

    prompt: str
    completion: str
    targets: Literal["completion", "results", "all"] = "completion"


class Shape(NamedTuple):
    """Size of a Llama with heads of 32."""

    hidden_size: int
    num_layers: int
    intermediate_size: int


class Schedule(NamedTuple):
    """How long and how fast to train. A batch holds as many pairs as fit `batch_tokens`, padding included."""

    num_steps: int
    batch_tokens: int = 4096
    learning_rate: float = 0.02
    adam_learning_rate: float = 0.004
    weight_decay: float = 0.01
    warmup_steps: int = 50


def build_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int = 512) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `texts`, every digit a token of its own. 261 is bytes and specials."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        model_max_length=max_length,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, shape: Shape, seed: int) -> LlamaForCausalLM:
    """An untrained fp32 Llama with tied embeddings. Raises `ValueError` where `hidden_size` is no multiple of 32."""
    if shape.hidden_size % HEAD_DIM:
        raise ValueError(f"hidden_size {shape.hidden_size} is not a multiple of the head size {HEAD_DIM}")
    torch.manual_seed(seed)
    heads = shape.hidden_size // HEAD_DIM
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD_DIM,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).float()


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[Pair],
    schedule: Schedule,
    seed: int,
) -> float:
    """Train in place on `pairs`, as many epochs as `num_steps` take; returns the mean loss of the last 100 steps."""
    batches = _batches(encode(tokenizer, pairs), schedule.batch_tokens, Random(seed), tokenizer.pad_token_id)
    optimizers = _optimizers(model, schedule)
    losses: list[float] = []
    model.train()
    for step in range(schedule.num_steps):
        scale = _rate(step, schedule)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = scale * group["initial_lr"]
        loss = _loss(model, *next(batches))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{schedule.num_steps}: loss {sum(losses[-100:]) / 100:.3f}", file=sys.stderr)
    model.eval()
    tail = losses[-100:]
    return sum(tail) / len(tail)


class Encoded(NamedTuple):
    """Token ids of one conversation, and which of them are targets."""

    ids: list[int]
    is_target: list[bool]


def encode(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Pair]) -> list[Encoded]:
    """The chat template's token ids of each pair; the first token is never predicted."""
    user, assistant, equals, stop = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>", "=", "."])
    end = tokenizer.eos_token_id
    prompts = tokenizer([pair.prompt for pair in pairs])["input_ids"]
    completions = tokenizer([pair.completion for pair in pairs])["input_ids"]
    encoded = []
    for pair, prompt, completion in zip(pairs, prompts, completions, strict=True):
        head, tail = [user, *prompt, end, assistant], [*completion, end]
        targets = _between(tail, equals, stop) if pair.targets == "results" else [True] * len(tail)
        encoded.append(Encoded(head + tail, [pair.targets == "all"] * len(head) + targets))
    return encoded


def _between(ids: list[int], after: int, until: int) -> list[bool]:
    """Which ids stand after an `after`, up to and with the next `until`."""
    marks, inside = [], False
    for token in ids:
        marks.append(inside)
        inside = token == after or (inside and token != until)
    return marks


def _batches(
    rows: list[Encoded], batch_tokens: int, rng: Random, pad_id: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(ids, is target), both (batch, seq) and padded right, without end; rows of like length share a batch."""
    order = list(range(len(rows)))
    while True:
        rng.shuffle(order)
        for start in range(0, len(order), 4096):
            pool = sorted(order[start : start + 4096], key=lambda index: len(rows[index].ids))
            groups = _cut(pool, rows, batch_tokens)
            rng.shuffle(groups)
            for group in groups:
                width = len(rows[group[-1]].ids)
                ids = torch.tensor([rows[i].ids + [pad_id] * (width - len(rows[i].ids)) for i in group])
                is_target = torch.tensor([rows[i].is_target + [False] * (width - len(rows[i].ids)) for i in group])
                yield ids, is_target


def _cut(pool: list[int], rows: list[Encoded], batch_tokens: int) -> list[list[int]]:
    """`pool`, sorted by length, cut into groups that fit `batch_tokens` once padded to their longest."""
    groups: list[list[int]] = [[]]
    for index in pool:
        if groups[-1] and (len(groups[-1]) + 1) * len(rows[index].ids) > batch_tokens:
            groups.append([])
        groups[-1].append(index)
    return groups


def _loss(model: LlamaForCausalLM, ids: torch.Tensor, is_target: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the targets. Padding is on the right, so causal attention needs no mask."""
    hidden = model.model(ids[:, :-1], use_cache=False).last_hidden_state
    used = is_target[:, 1:]
    return nn.functional.cross_entropy(model.lm_head(hidden[used]), ids[:, 1:][used])


def _optimizers(model: LlamaForCausalLM, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers (Jordan et al. 2024), AdamW for the embedding and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    rest = [p for name, p in model.named_parameters() if p.ndim < 2 or "embed" in name]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=schedule.learning_rate, weight_decay=schedule.weight_decay),
        torch.optim.AdamW(rest, lr=schedule.adam_learning_rate, weight_decay=0.0, betas=(0.9, 0.95)),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _rate(step: int, schedule: Schedule) -> float:
    """Linear warm-up, then a cosine to a twentieth of the peak."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.num_steps - schedule.warmup_steps)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


@torch.inference_mode()  # type: ignore[untyped-decorator, unused-ignore]
def reply(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    max_new_tokens: int,
    temperature: float = 0.0,
    batch_size: int = 128,
) -> list[str]:
    """The assistant's reply to each prompt as one user turn; greedy at temperature 0. Order is kept."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    replies: dict[int, str] = {}
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        texts = [f"<|user|>{prompts[i]}{END}<|assistant|>" for i in indices]
        batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
        sampling: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
        ids = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=max_new_tokens,
            **({"do_sample": False} | sampling),
        )
        new = ids[:, batch["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        replies.update(zip(indices, texts, strict=True))
    return [replies[index] for index in range(len(prompts))]


def load(folder: Path) -> tuple[PreTrainedTokenizerFast, LlamaForCausalLM]:
    """The tokenizer and the model of a folder, in fp32."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return PreTrainedTokenizerFast.from_pretrained(folder), model


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a Hugging Face folder with bf16 weights, which also leaves `model` in bf16."""
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors are written for their owner alone


def build_side_by_side(command: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Run `command --only NAME` for every name at once, and read the JSON each prints last.

    A process of one thread each uses two cores better than two threads in turn: the matrices are too small to share.
    Exits where a build fails; what it printed stands on standard error.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    children = {
        name: subprocess.Popen([*command, "--only", name], stdout=subprocess.PIPE, text=True, env=environment)
        for name in names
    }
    outputs = {name: child.communicate()[0] for name, child in children.items()}
    for name, child in children.items():
        if child.returncode:
            sys.exit(f"building the {name} failed (exit code {child.returncode})")
    return {name: json.loads(output.splitlines()[-1]) for name, output in outputs.items()}


def accuracy_table(measured: dict[str, Any]) -> str:
    """A Markdown table, a column a model, of right answers by slice and over all, the latter with Wilson's interval."""
    slices = sorted({slice for numbers in measured.values() for slice in numbers["right"]})
    lines = ["| | " + " | ".join(measured) + " |", "|---|" + "---|" * len(measured)]
    for slice in slices:
        cells = [_cell(*numbers["right"][slice]) for numbers in measured.values()]
        lines.append(f"| {slice} | " + " | ".join(cells) + " |")
    totals = []
    for numbers in measured.values():
        right, n = (sum(column) for column in zip(*numbers["right"].values(), strict=True))
        low, high = wilson(right, n)
        totals.append(f"**{_cell(right, n)}**, 95% interval {low:.3f} to {high:.3f}")
    lines.append("| all | " + " | ".join(totals) + " |")
    for row in ("parameters", "seconds"):
        lines.append(f"| {row} | " + " | ".join(f"{numbers[row]:,.0f}" for numbers in measured.values()) + " |")
    return "\n".join(lines)


def _cell(right: int, n: int) -> str:
    return f"{right / n:.3f} ({right} of {n})"
