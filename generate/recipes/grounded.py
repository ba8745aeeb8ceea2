"""Instructive texts written from a document, for an audience, in a style.

After Cosmopedia (Ben Allal et al., 2024, https://huggingface.co/blog/cosmopedia) and the textbooks of phi-1.5 (Li et
al., 2023, arXiv:2309.05463): each sample draws a passage, an audience and a style, which is what keeps many texts
about few topics apart. Here the request is written first, so that the sample is an instruction and its answer; a critic
rates whether the text teaches and holds to the passage.

    generate: {recipes: [{name: grounded, audiences: [young children, college students], styles: [a textbook section]}]}

The document is a source, not a verifier: what the text adds to it is the teacher's own knowledge, seen by the critic
alone. Starts from real train rows and never from failures: without `documents` the row itself is the document.
"""

from __future__ import annotations

from pydantic import Field

from generate.context import Context, Conversation
from generate.documents import DocumentsConfig, draw
from generate.gates import CriticConfig, ask_rating, copied, flaw, rating
from synthloop.records import Seed

SEEDS = "non_failures"


class Config(DocumentsConfig, CriticConfig):
    """The grid of conditions, and the gates. Defaults are chosen, not measured; the grid is after Cosmopedia's.

    Args:
        min_rating: of 5, by the critic.
        max_copied: the largest share of the text's 8-grams that may stand in the passage.
    """

    audiences: tuple[str, ...] = Field(
        default=("young children", "high school students", "college students", "professionals of another field"),
        min_length=1,
    )
    styles: tuple[str, ...] = Field(
        default=(
            "a textbook section",
            "a blog post",
            "a step-by-step guide",
            "a short story that teaches",
            "a dialogue between a teacher and a student",
        ),
        min_length=1,
    )
    min_rating: int = Field(default=4, ge=1, le=5)
    max_copied: float = Field(default=0.5, ge=0, le=1)


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    (passage,) = draw(cfg, seed, ctx)
    conditions = ctx.rng("conditions")
    audience, style = conditions.choice(cfg.audiences), conditions.choice(cfg.styles)

    request = yield ctx.ask("teacher", "grounded_request.jinja", passage=passage, audience=audience, style=style)
    if refusal := flaw(request, "request"):
        return ctx.reject(refusal)
    text = yield ctx.ask(
        "teacher", "grounded_text.jinja", passage=passage, audience=audience, style=style, request=request
    )
    if refusal := flaw(text, "text"):
        return ctx.reject(refusal)
    share = copied(text, passage.text)
    if share > cfg.max_copied:
        return ctx.reject(f"copied: {share:.2f} of the text stands in the passage")

    verdict = yield ask_rating(
        ctx, "grounded_rating.jinja", passage=passage, audience=audience, style=style, request=request, text=text
    )
    gate = rating(verdict, "quality", cfg.min_rating)
    if gate.refusal:
        return ctx.reject(gate.refusal)
    return ctx.candidate(
        request,
        text,
        scores={"quality": gate.score, "copied": share},
        sources=[passage.id],
        lineage={"passage": passage.id, "audience": audience, "style": style},
    )
