"""Questions whose evidence is spread over a long input made of several real documents, among distractors.

Long inputs are put together from real passages, as for AFM (Gunter et al., 2024, arXiv:2407.21075) and Qwen2 (Yang et
al., 2024, arXiv:2407.10671). The evidence is a passage and those of other documents most like it; the teacher writes a
question that takes all of them. Readers then check it as MuSiQue does (Trivedi et al., 2022, arXiv:2108.00573): the
answer must follow from the evidence together, and neither from one of its passages alone nor from the distractors, the
next most like it.

    generate: {recipes: [{name: long_context, num_evidence: 2, num_distractors: 16, pool: 200}]}

"Like" is words in common, so that related documents come together only where `pool` holds some. The readers are the
critic's: one that guesses well refuses good questions, one that reads badly refuses all. Starts from real train rows
and never from failures: without `documents` the passages are the row and its demonstrations, too few for a long input.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field

from generate.context import Context, Conversation
from generate.documents import DocumentsConfig, Passage, draw
from generate.gates import CriticConfig, Reading, ask_reading, malformed, over, overlap
from synthloop.records import Seed
from synthloop.similarity import jaccard, ngrams

SEEDS = "non_failures"


class Config(DocumentsConfig, CriticConfig):
    """How long, from how much. Defaults are chosen, not measured; 18 passages of 250 words are about 6,000 tokens.

    Args:
        pool: passages drawn, of which the evidence and the distractors are the most alike.
        min_overlap: word F1 from which two answers are the same.
    """

    num_evidence: int = Field(default=2, ge=2, le=6)
    num_distractors: int = Field(default=16, ge=1)
    pool: int = Field(default=200, ge=3)
    min_overlap: float = Field(default=0.6, gt=0, le=1)


class Draft(BaseModel):
    """`facts` come first: one of each passage, and the question joins them."""

    facts: list[str] = Field(min_length=2, max_length=6)
    question: str = Field(max_length=300)
    answer: str = Field(max_length=200)


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    evidence, distractors = pick(draw(cfg, seed, ctx, cfg.pool), cfg.num_evidence, cfg.num_distractors)
    if len(evidence) < cfg.num_evidence or not distractors:
        return ctx.reject(f"too few documents: {len(evidence)} for evidence, {len(distractors)} distractors")

    reply = yield ctx.ask("teacher", "long_context_question.jinja", passages=evidence, schema=Draft)
    draft = reply.read(Draft)
    if draft is None or not draft.question.strip() or not draft.answer.strip():
        return ctx.reject(malformed("question", reply))

    readers = [evidence, distractors, *([one] for one in evidence)]
    replies = yield [ask_reading(ctx, draft.question, passages) for passages in readers]
    readings = [reply.read(Reading) for reply in replies]
    if None in readings:
        return ctx.reject(malformed("reading", replies[readings.index(None)]))
    together, without, *alone = [overlap(one.answer, draft.answer) if one.answerable else 0.0 for one in readings]
    if together < cfg.min_overlap:
        return ctx.reject(f"unsupported: the evidence gives {readings[0].answer!r}, not {draft.answer!r}")
    if without >= cfg.min_overlap:
        return ctx.reject(f"no evidence needed: the distractors give {draft.answer!r}")
    if max(alone) >= cfg.min_overlap:
        return ctx.reject(f"one passage is enough: {evidence[alone.index(max(alone))].id} gives {draft.answer!r}")

    shown = ctx.rng("order").sample([*evidence, *distractors], len(evidence) + len(distractors))
    return ctx.candidate(
        over(shown, draft.question.strip()),
        draft.answer.strip(),
        scores={"together": together, "alone": max(alone), "without": without},
        sources=[one.id for one in shown],
        lineage={"evidence": [one.id for one in evidence], "passages": [one.id for one in shown], "facts": draft.facts},
    )


def pick(drawn: Sequence[Passage], num_evidence: int, num_distractors: int) -> tuple[list[Passage], list[Passage]]:
    """The first passage with those of other documents most like it, and the distractors: the next most like it."""
    first, *rest = drawn
    words = ngrams(first.text, 1)
    ranked = sorted(rest, key=lambda one: -jaccard(words, ngrams(one.text, 1)))
    evidence = {_document(first): first}
    for one in ranked:
        if len(evidence) < num_evidence:
            evidence.setdefault(_document(one), one)
    chosen = list(evidence.values())
    return chosen, [one for one in ranked if one not in chosen][:num_distractors]


def _document(passage: Passage) -> str:
    """The document a passage is a piece of: 'pump.md' for 'pump.md#3'."""
    return passage.id.rpartition("#")[0] or passage.id
