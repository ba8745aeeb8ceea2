"""Instructions for which a real text is the answer: the completion is the text, word for word.

Instruction backtranslation (Li et al., "Humpback", 2023, arXiv:2308.06259): the teacher writes the instruction of a
real text, then rates from 1 to 5 how well the text answers it (self-curation; the paper trains on the 5s). With
`regenerate`, as in phi-4 (Abdin et al., 2024, arXiv:2412.08905), it also answers the instruction without the text, and
the task's scorer must find the real answer in that: an instruction that lost something needed is refused.

    generate: {recipes: [{name: reversal, min_rating: 5, regenerate: false}]}

Starts from real train rows and never from failures, as a real completion becomes training text. Without `documents`
that is the row's own: use `regenerate`, and the filter `novelty` against instructions that restore the row's input.
`regenerate` is for tasks whose answers a scorer compares, and reads nothing with `documents`, which have none.
"""

from __future__ import annotations

from pydantic import Field

from generate.context import Context, Conversation
from generate.documents import DocumentsConfig, draw
from generate.gates import CriticConfig, ask_rating, copied, flaw, rating
from synthloop.records import Seed

SEEDS = "non_failures"


class Config(DocumentsConfig, CriticConfig):
    """Self-curation and fidelity.

    Args:
        min_rating: of 5, by the critic; 5 is the paper's.
        regenerate: whether the instruction must lead the teacher to the real answer.
        max_copied: the largest share of the instruction's 8-grams that may stand in the text (chosen, not measured).
    """

    min_rating: int = Field(default=5, ge=1, le=5)
    regenerate: bool = False
    max_copied: float = Field(default=0.1, ge=0, le=1)


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    real = seed.example if cfg.documents is None else None
    (passage,) = draw(cfg, seed, ctx)
    text = passage.text if real is None else real.completion

    instruction = yield ctx.ask("teacher", "reversal_instruction.jinja", text=text)
    if refusal := flaw(instruction, "instruction"):
        return ctx.reject(refusal)
    share = copied(instruction, text)
    if share > cfg.max_copied:
        return ctx.reject(f"copied: {share:.2f} of the instruction stands in the text")

    verdict = yield ask_rating(ctx, "reversal_rating.jinja", instruction=instruction, text=text)
    gate = rating(verdict, "curation", cfg.min_rating)
    if gate.refusal:
        return ctx.reject(gate.refusal)

    if cfg.regenerate and real is not None:
        prompt = ctx.task.messages(instruction)[-1]["content"]
        again = yield ctx.ask("teacher", "solve.jinja", problem=instruction, prompt=prompt)
        score = ctx.score(instruction, again, answer=real.answer)
        if again.truncated or not score.correct:
            return ctx.reject(f"infidelity: the instruction leads to {score.parsed!r}, the text says {real.answer!r}")
    return ctx.candidate(
        instruction,
        text,
        answer=None if real is None else real.answer,
        gold=True,
        scores={"curation": gate.score},
        sources=[passage.id],
        lineage={"text": passage.id, "regenerated": cfg.regenerate and real is not None},
    )
