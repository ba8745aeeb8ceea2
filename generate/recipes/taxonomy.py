"""Questions and answers for the leaves of a taxonomy of knowledge and skills, each through three gates.

LAB (Sudalairaj et al., 2024, arXiv:2403.01081; InstructLab): people grow a tree and give each leaf a few examples. A
sample draws a leaf, writes a question like its examples (about a passage, where it is knowledge; with a text to work
on, where it is a grounded skill), and answers it. A critic gates the question, then the answer's faithfulness to the
text (its correctness, where there is none) and its relevance.

    generate: {recipes: [{name: taxonomy, taxonomy: configs/taxonomy, branches: [knowledge, compositional_skills]}]}

`lineage.leaf` and `lineage.branch` say where a sample comes from. LAB trains in phases, knowledge first; here all
branches are mixed. The tree is InstructLab's own layout (`generate/leaves.py`). Leaves are drawn evenly, whatever the
task; seeds only stand for their number, so failures are left to other recipes. The gates are the critic's word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from generate.context import Context, Conversation
from generate.gates import CriticConfig, adherence, ask_adherence, ask_rating, flaw, malformed, rating
from generate.leaves import Branch, read_leaves
from synthloop.records import Seed

SEEDS = "non_failures"


class Config(CriticConfig):
    """The tree, what of it is shown, and the gates. Defaults are chosen, not measured; three examples are LAB's.

    Args:
        min_rating: of 5, for the question, the answer's correctness and its relevance.
        min_adherence: the share of the answer's claims that its text must support.
    """

    taxonomy: Path
    branches: tuple[Branch, ...] = Field(
        default=("knowledge", "foundational_skills", "compositional_skills"), min_length=1
    )
    num_shots: int = Field(default=3, gt=0)
    max_words: int = Field(default=250, gt=0)
    min_rating: int = Field(default=4, ge=1, le=5)
    min_adherence: float = Field(default=1.0, ge=0, le=1)


class Question(BaseModel):
    question: str = Field(max_length=500)


class GroundedQuestion(BaseModel):
    context: str = Field(max_length=1000)
    question: str = Field(max_length=500)


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    draws = ctx.rng("leaf")
    leaf = draws.choice(read_leaves(cfg.taxonomy, cfg.branches, cfg.max_words))
    shots = draws.sample(leaf.shots, min(cfg.num_shots, len(leaf.shots)))
    passage = draws.choice(leaf.passages) if leaf.passages else None

    schema = GroundedQuestion if leaf.is_grounded else Question
    reply = yield ctx.ask("teacher", "taxonomy_question.jinja", leaf=leaf, shots=shots, passage=passage, schema=schema)
    draft = reply.read(schema)
    if draft is None or not draft.question.strip():
        return ctx.reject(malformed("question", reply))
    if leaf.is_grounded and not draft.context.strip():
        return ctx.reject("malformed: the text to work on is empty")
    context = draft.context.strip() if leaf.is_grounded else passage.text if passage else None
    material: dict[str, Any] = {"leaf": leaf, "question": draft.question.strip(), "context": context}

    asked = yield ask_rating(ctx, "taxonomy_question_gate.jinja", **material)
    question = rating(asked, "question", cfg.min_rating)
    if question.refusal:
        return ctx.reject(question.refusal)
    answer = yield ctx.ask("teacher", "taxonomy_answer.jinja", shots=shots, **material)
    if refusal := flaw(answer, "answer"):
        return ctx.reject(refusal)

    relevant, true = yield [
        ask_rating(ctx, "taxonomy_relevance_gate.jinja", answer=answer, **material),
        ask_adherence(ctx, draft.question.strip(), context, answer)
        if context
        else ask_rating(ctx, "taxonomy_correctness_gate.jinja", answer=answer, **material),
    ]
    relevance = rating(relevant, "relevance", cfg.min_rating)
    truth = adherence(true, cfg.min_adherence) if context else rating(true, "correctness", cfg.min_rating)
    if refusal := truth.refusal or relevance.refusal:
        return ctx.reject(refusal)
    return ctx.candidate(
        f"{context}\n\n{draft.question.strip()}" if leaf.is_grounded else draft.question.strip(),
        answer,
        scores={
            "question": question.score,
            "adherence" if context else "correctness": truth.score,
            "relevance": relevance.score,
        },
        sources=[passage.id] if passage else [],
        lineage={"leaf": leaf.name, "branch": leaf.branch, "shots": [shot.question for shot in shots]},
    )
