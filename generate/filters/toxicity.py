"""Is it free of what you call toxic, by your own classifier, function or word list.

    curate: {filters: [{name: toxicity, words: [moron, scumbag]}]}

Nothing is downloaded and no classifier is chosen for you; name at least one scorer:
- `model`, a folder with a Hugging Face text-classification model, e.g. a copy of `unitary/toxic-bert`
  (https://github.com/unitaryai/detoxify), and `thresholds: {toxicity: 0.5, threat: 0.2}` for the labels that count;
- `function`, a dotted path to `list[str] -> list[dict[label, score]]`, and `thresholds`;
- `words`, any of which, as a whole word in any case, refuses the sample (as C4 did, arXiv:1910.10683, section 2.2).

Problem and completion are scored apart; a score at or above its label's threshold refuses.

Limits: classifiers of toxicity flag dialect and mentions of identities beyond their rate of harm (Sap et al., ACL
2019), word lists more so: read what is rejected. A text longer than the model's context is judged by its beginning.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self
from unicodedata import normalize

from pydantic import BaseModel, ConfigDict, Field, model_validator

from generate.curation import KEEP, FilterContext, refuse
from synthloop import problems
from synthloop.characters import whole_word
from synthloop.errors import UserError
from synthloop.records import Candidate, Decision

Scores = list[dict[str, float]]


class Config(BaseModel):
    """`thresholds`: the labels of model or function that count, and from which score on, in [0, 1]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path | None = None
    function: str | None = None
    words: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    thresholds: dict[str, float] = {}
    batch_size: int = Field(default=32, gt=0)

    @model_validator(mode="after")
    def _check_scorer(self) -> Self:
        if self.model is None and self.function is None and not self.words:
            raise ValueError("nothing to score with: set `model` (a folder), `function` (a dotted path) or `words`")
        if self.model is not None and self.function is not None:
            raise ValueError("set `model` or `function`, not both")
        if (self.model is not None or self.function is not None) and not self.thresholds:
            raise ValueError("set `thresholds`, e.g. {toxicity: 0.5}: which labels count, and from which score on")
        return self


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    shared = problems.shared_system(batch)
    asked = [problems.compared(one, shared) for one in batch]
    texts = [text for one, problem in zip(batch, asked, strict=True) for text in (problem, one.completion)]
    scores = _scores(cfg, texts) if texts else []
    words = re.compile("|".join(whole_word(normalize("NFC", word)) for word in cfg.words), re.IGNORECASE)
    decisions = []
    for n, one in enumerate(batch):
        listed = words.search(normalize("NFC", f"{asked[n]}\n{one.completion}")) if cfg.words else None
        if listed is not None:
            decisions.append(refuse(f"listed word: {listed.group()!r}"))
        else:
            decisions.append(_decide(cfg, scores[2 * n : 2 * n + 2]))
    return decisions


def _decide(cfg: Config, scores: Sequence[dict[str, float]]) -> Decision:
    """`scores` of problem and completion; none where only words are looked for."""
    found = [(one[label], label, field) for field, one in zip(("problem", "answer"), scores, strict=False)
             for label in cfg.thresholds]  # fmt: skip
    if not found:
        return KEEP
    over = [one for one in found if one[0] >= cfg.thresholds[one[1]]]
    if not over:
        return Decision(keep=True, score=max(found)[0])
    score, label, field = max(over)
    return refuse(f"{label}: {score:.2f} in the {field}", score)


def _scores(cfg: Config, texts: Sequence[str]) -> Scores:
    """Label -> score of each text, by the user's model or function; [] where there is neither.

    Raises:
        UserError: it can't be loaded, or gives no score for a label of `thresholds`.
    """
    if cfg.model is None and cfg.function is None:
        return []
    source = f"the model {cfg.model}" if cfg.model is not None else f"the function {cfg.function}"
    score = _model(cfg.model, cfg.batch_size) if cfg.model is not None else _function(str(cfg.function))
    scores = score(texts)
    if len(scores) != len(texts):
        raise UserError(f"curate.filters toxicity: {source} gave {len(scores)} scores for {len(texts)} texts.")
    for one in scores:
        if missing := sorted(cfg.thresholds.keys() - one.keys()):
            raise UserError(
                f"curate.filters toxicity: {source} has no label {', '.join(map(repr, missing))}, which `thresholds` "
                f"names. Its labels: {', '.join(sorted(one))}."
            )
    return scores


def _function(path: str) -> Callable[[Sequence[str]], Scores]:
    module, _, name = path.rpartition(".")
    try:
        found: Callable[[Sequence[str]], Scores] = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(
            f"curate.filters toxicity: the function '{path}' cannot be imported: {error}. Its module must be on "
            "PYTHONPATH."
        ) from error
    return found


def _model(folder: Path, batch_size: int) -> Callable[[Sequence[str]], Scores]:
    """A scorer by the classifier in `folder`, on the CPU: engines may hold the device."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        network = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"curate.filters toxicity: no text-classification model could be loaded from '{folder}': "
            f"{str(error).splitlines()[0]}\nExpected a folder with config.json, weights and tokenizer."
        ) from error
    # Detoxify's models and many others score each label by itself; softmax is for labels that exclude one another.
    several = network.config.problem_type == "multi_label_classification" or network.config.num_labels == 1
    limits = (tokenizer.model_max_length, getattr(network.config, "max_position_embeddings", None))
    max_length = min(int(one) for one in limits if one is not None)

    def score(texts: Sequence[str]) -> Scores:
        scores: Scores = []
        for begin in range(0, len(texts), batch_size):
            some = list(texts[begin : begin + batch_size])
            inputs: Any = tokenizer(some, return_tensors="pt", padding=True, truncation=True, max_length=max_length)
            with torch.inference_mode():
                logits = network(**inputs).logits
            shares = logits.sigmoid() if several else logits.softmax(-1)
            scores += [{network.config.id2label[n]: value for n, value in enumerate(row)} for row in shares.tolist()]
        return scores

    return score
