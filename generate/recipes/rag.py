"""Questions over retrieved passages: answers that hold to them, and refusals where they hold no answer.

The evidence stands among distractors, as in RAFT (Zhang et al., 2024, arXiv:2403.10131). An answer is kept by the share
of its claims that the passages support (faithfulness in RAGAS, Es et al., 2023, arXiv:2309.15217). At a stated share
the question is one that the passages seem to answer and do not (SQuAD 2.0, Rajpurkar et al., 2018, arXiv:1806.03822);
a critic must fail to answer it too, and the completion is the `refusal`.

    generate: {recipes: [{name: rag, num_passages: 3, unanswerable_share: 0.2, min_adherence: 1.0}]}

The student's input is the numbered passages and the question; what to do with them belongs into `task.prompt`. Starts
from real train rows and never from failures: without `documents` the passages are the row and its demonstrations.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from generate.context import Context, Conversation
from generate.documents import DocumentsConfig, draw
from generate.gates import CriticConfig, Reading, adherence, ask_adherence, ask_reading, malformed, numbered, over
from synthloop.records import Seed

SEEDS = "non_failures"


class Config(DocumentsConfig, CriticConfig):
    """Passages shown, and how much of what kind is kept. Defaults are chosen, not measured."""

    num_passages: int = Field(default=3, gt=0)
    unanswerable_share: float = Field(default=0.2, ge=0, le=1)
    min_adherence: float = Field(default=1.0, ge=0, le=1)
    refusal: str = Field(default="The passages do not answer this question.", min_length=1)


class Answerable(BaseModel):
    question: str = Field(max_length=300)
    answer: str = Field(max_length=800)


class Unanswerable(BaseModel):
    missing: str
    question: str = Field(max_length=300)


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    passages = draw(cfg, seed, ctx, cfg.num_passages)
    evidence = passages[0]
    shown = ctx.rng("order").sample(passages, len(passages))
    lineage = {"passages": [one.id for one in shown], "evidence": evidence.id}

    if ctx.rng("answerable").random() < cfg.unanswerable_share:
        reply = yield ctx.ask("teacher", "rag_unanswerable.jinja", passage=evidence, schema=Unanswerable)
        draft = reply.read(Unanswerable)
        if draft is None or not draft.question.strip():
            return ctx.reject(malformed("question", reply))
        read = yield ask_reading(ctx, draft.question, shown)
        if (reading := read.read(Reading)) is None:
            return ctx.reject(malformed("reading", read))
        if reading.answerable:
            return ctx.reject(f"answerable: the critic finds {reading.answer!r}")
        completion, scores = cfg.refusal, {}
    else:
        reply = yield ctx.ask("teacher", "rag_question.jinja", passage=evidence, schema=Answerable)
        draft = reply.read(Answerable)
        if draft is None or not draft.question.strip() or not draft.answer.strip():
            return ctx.reject(malformed("question", reply))
        gate = adherence((yield ask_adherence(ctx, draft.question, numbered(shown), draft.answer)), cfg.min_adherence)
        if gate.refusal:
            return ctx.reject(gate.refusal)
        completion, scores = draft.answer.strip(), {"adherence": gate.score}

    return ctx.candidate(
        over(shown, draft.question.strip()),
        completion,
        scores=scores,
        sources=[one.id for one in shown],
        lineage={**lineage, "answerable": bool(scores)},
    )
