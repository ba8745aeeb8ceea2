"""What does a reward model give it: a sequence classifier whose outputs are attributes such as helpfulness.

The model reads prompt and completion through its own chat template. Each output that `attributes` names by its number
may have a `min` and a `weight`; the score is the weighted sum (HelpSteer2, Wang et al., 2024, arXiv:2406.08673, whose
outputs are helpfulness, correctness, coherence, complexity and verbosity). A model with one output needs none named.

    curate: {filters: [{name: reward, model: quickstart/reward, min_score: 0.0}]}

    - name: reward                                 # several attributes
      model: path/to/reward-model                  # a folder or hub id of a classifier with several outputs
      attributes:
        helpfulness: {output: 0, weight: 0.65, min: 2.5}
        coherence: {output: 2, weight: 0.45}
        verbosity: {output: 4, weight: -0.4}
      min_score: 1.5

Rewards are the raw outputs, on the model's own scale: read a round's scores before setting limits. A text longer than
the model's context is refused, never cut. The model is loaded by transformers when there is something to judge and
freed after it; on a GPU the engines of the roles are closed first, and opened again when they are asked.

Limits: reward models prefer length and style to truth, and are least reliable on text unlike their training data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import FilterContext, refuse
from synthloop import problems
from synthloop.chat import conversation_text
from synthloop.errors import UserError
from synthloop.records import Candidate, Decision, Message

VERIFIES = True


class Attribute(BaseModel):
    """One output of the model: its number, what it counts for the score, and the least that is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: int = Field(default=0, ge=0)
    weight: float = 1.0
    min: float | None = None


class Config(BaseModel):
    """`args` go verbatim to `from_pretrained` (`dtype`, `device_map`, ...).

    Args:
        input: 'chat' renders the conversation with the tokenizer's chat template; 'pair' gives the turns before the
            completion, as one text, and the completion as a sentence pair, for models without one (DeBERTa).
        max_length: tokens; by default the model's own limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    revision: str | None = None
    args: dict[str, Any] = {}
    attributes: dict[str, Attribute] = Field(default={"reward": Attribute()}, min_length=1)
    min_score: float | None = None
    input: Literal["chat", "pair"] = "chat"
    batch_size: int = Field(default=8, gt=0)
    max_length: int | None = Field(default=None, gt=0)


class Classifier(NamedTuple):
    """The loaded model with its tokenizer."""

    model: Any
    tokenizer: Any
    max_length: int


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    if not batch:
        return []
    ctx.free_device()
    classifier = _load(cfg)
    system = ctx.task.config.system
    encoded = [_encode(cfg, classifier.tokenizer, one, system) for one in batch]
    fits = [place for place, one in enumerate(encoded) if len(one["input_ids"]) <= classifier.max_length]
    outputs = dict(zip(fits, _outputs(cfg, classifier, [encoded[place] for place in fits]), strict=True))
    told = f"the reward model reads {classifier.max_length}"
    return [
        _decide(cfg, one, outputs[place])
        if place in outputs
        else refuse(f"too long: {len(encoded[place]['input_ids'])} tokens, {told}")
        for place, one in enumerate(batch)
    ]


def _load(cfg: Config) -> Classifier:
    """Raises `UserError` where there is no such model, or where it is no classifier with the outputs asked for."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            cfg.model, revision=cfg.revision, output_loading_info=True, **cfg.args
        )
        tokenizer = AutoTokenizer.from_pretrained(cfg.model, revision=cfg.revision)
    except (OSError, ValueError, TypeError) as error:
        told = str(error).splitlines()[0]
        raise UserError(f"reward: transformers refuses the model '{cfg.model}': {told}") from error
    if report["missing_keys"]:
        raise UserError(
            f"reward: '{cfg.model}' has no trained head ({sorted(report['missing_keys'])[0]} would be random). Name a "
            "reward model, saved as a sequence classifier."
        )
    for name, one in cfg.attributes.items():
        if one.output >= model.config.num_labels:
            raise UserError(
                f"reward: attributes.{name}.output is {one.output}, but '{cfg.model}' has {model.config.num_labels} "
                "outputs, counted from 0."
            )
    if cfg.input == "chat" and not tokenizer.chat_template:
        raise UserError(f"reward: the tokenizer of '{cfg.model}' has no chat template. Set `input: pair`.")
    if "device_map" not in cfg.args:
        model.to("cuda" if torch.cuda.is_available() else "cpu")
    limit = cfg.max_length or getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    return Classifier(model.eval(), tokenizer, int(limit))


def _encode(cfg: Config, tokenizer: Any, one: Candidate, system: str | None) -> Mapping[str, list[int]]:
    """The model's inputs for one candidate, without padding. A pair has no place for the task's `system` turn."""
    if cfg.input == "pair":
        asked = "\n\n".join(turn["content"] for turn in problems.dialogue(one, system))
        encoded: Mapping[str, list[int]] = tokenizer(asked, one.completion)
        return encoded
    turns = [*one.messages, Message(role="assistant", content=one.completion)]
    text = conversation_text(tokenizer, turns)
    plain: Mapping[str, list[int]] = tokenizer(text, add_special_tokens=False)
    return plain


def _outputs(cfg: Config, classifier: Classifier, encoded: Sequence[Mapping[str, list[int]]]) -> list[list[float]]:
    """One list of outputs a text, in order. Texts of like length share a batch.

    A model that has no padding token finds the end of a text by its place alone: it reads one at a time.
    """
    import torch

    model, tokenizer, _ = classifier
    pad_id = model.config.pad_token_id
    size = 1 if pad_id is None else cfg.batch_size
    order = sorted(range(len(encoded)), key=lambda place: len(encoded[place]["input_ids"]))
    found: dict[int, list[float]] = {}
    for start in range(0, len(order), size):
        places = order[start : start + size]
        inputs = _padded(tokenizer, pad_id, [encoded[place] for place in places])
        with torch.inference_mode():
            logits = model(**{name: value.to(model.device) for name, value in inputs.items()}).logits
        found.update(zip(places, logits.float().tolist(), strict=True))
    return [found[place] for place in range(len(encoded))]


def _padded(tokenizer: Any, pad_id: int | None, encoded: Sequence[Mapping[str, list[int]]]) -> Mapping[str, Any]:
    """Tensors (batch, longest), padded on the right with the token the model knows as padding."""
    if pad_id is not None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_id)
    names = ("input_ids", "attention_mask", "token_type_ids")
    plain = [{name: one[name] for name in names if name in one} for one in encoded]
    padded: Mapping[str, Any] = tokenizer.pad(plain, padding=len(plain) > 1, padding_side="right", return_tensors="pt")
    return padded


def _decide(cfg: Config, one: Candidate, outputs: Sequence[float]) -> Decision:
    values = {name: outputs[attribute.output] for name, attribute in cfg.attributes.items()}
    score = sum(attribute.weight * values[name] for name, attribute in cfg.attributes.items())
    for name, attribute in cfg.attributes.items():
        if attribute.min is not None and values[name] < attribute.min:
            return refuse(f"low {name}: {values[name]:.2f}, below {attribute.min}", score)
    if cfg.min_score is not None and score < cfg.min_score:
        return refuse(f"low: score {score:.2f}, below {cfg.min_score}", score)
    if len(values) == 1:
        return Decision(keep=True, score=score)
    return Decision(keep=True, score=score, scores={f"reward_{name}": value for name, value in values.items()})
