"""Would training on it help with what the student failed: similarity of gradients on the LoRA weights.

The score is the mean cosine between the sample's gradient and those of up to `num_targets` of the student's failures
with their right answers (LESS, Xia et al., 2024, arXiv:2402.04333, whose Adam statistics and warm-up checkpoints are
left out). The best `keep_share` of the batch with a score of at least `min_score` are kept.

    curate: {filters: [{name: influence, keep_share: 0.7}]}

Limits: one forward and backward pass a sample, so put it last; the failures it aims at are of `probe` (or of train),
never of gate or test, and the gain on probe then flatters: read the one on gate. Cosines of single samples are noisy,
and what is similar is not always what helps: compare with a random choice of the same size.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import FilterContext, refuse
from generate.influence import Gradients, Text
from synthloop.randomness import derive_seed
from synthloop.records import Candidate, Decision, Failure
from synthloop.store import read_rows


class Config(BaseModel):
    """`max_length` in tokens; the defaults are chosen, not measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep_share: float = Field(default=0.7, gt=0, le=1)
    min_score: float = Field(default=0.0, ge=-1, le=1)
    num_targets: int = Field(default=64, gt=0)
    max_length: int = Field(default=1024, gt=0)


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    targets = _targets(cfg, ctx)
    if not batch or not targets:
        return [Decision(keep=True) for _ in batch]
    ctx.free_device()
    gradients = _gradients(ctx)
    aim = gradients.of(targets, cfg.max_length).mean(axis=0)
    rows = gradients.of([Text(one.messages, one.completion) for one in batch], cfg.max_length)
    scores = [float(score) for score in rows @ aim]
    best = sorted(range(len(batch)), key=lambda n: (-scores[n], batch[n].id))[: round(cfg.keep_share * len(batch))]
    chosen = {n for n in best if scores[n] >= cfg.min_score}
    return [
        Decision(keep=True, score=score)
        if n in chosen
        else refuse(f"low influence: gradient similarity {score:.3f} with the student's failures", score)
        for n, score in enumerate(scores)
    ]


def _targets(cfg: Config, ctx: FilterContext) -> list[Text]:
    """The failures of the accepted round with their right answers, drawn by a seeded hash."""
    path = ctx.run.round_dir(ctx.run.accepted_round(ctx.round)) / "failures.jsonl"
    failures = read_rows(path, Failure)
    order = sorted(failures, key=lambda one: derive_seed(ctx.run.config.seed, ctx.round, "influence", one.id))
    return [Text(one.example.messages, one.example.completion) for one in order[: cfg.num_targets]]


def _gradients(ctx: FilterContext) -> Gradients:
    config = ctx.run.config
    adapter = ctx.run.adapter(ctx.run.accepted_round(ctx.round))
    seed = derive_seed(config.seed, ctx.round, "influence")
    student = config.student.engine_config()
    return Gradients(
        *(student.model, student.revision, adapter, config.train.lora, seed),
        tokenizer=student.tokenizer,
        template_kwargs=student.chat_template_kwargs,
    )
