"""Gates: what a recipe asks a critic about a draft before it keeps it, and how it reads the reply.

    adherence   the share of an answer's claims that its context supports   Es et al., 2023 (arXiv:2309.15217)
    reading     what someone answers who has these passages and no others
    rating      1 to 5, the reason before the number

RAGAS (the first) lists the claims in one request and judges them in a second; here it is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from generate.asking import Ask, Reply
from generate.context import Context
from generate.documents import Passage
from synthloop.plugins import RoleName
from synthloop.similarity import ngrams, words


class CriticConfig(BaseModel):
    """Who judges drafts, and `SamplingParams` over those of the role: a verdict is greedy unless told otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    critic: RoleName = "teacher"
    critic_sampling: dict[str, Any] = {"temperature": 0.0}


class Rating(BaseModel):
    """A critic's rating. The prompt says what each number means."""

    reason: str
    score: int = Field(ge=1, le=5)


class Claim(BaseModel):
    """One statement of an answer."""

    claim: str
    supported: bool


class Claims(BaseModel):
    """All statements of an answer, or the eight that say most."""

    claims: list[Claim] = Field(min_length=1, max_length=8)


class Reading(BaseModel):
    """What a reader makes of a question, given some passages and nothing else."""

    reason: str
    answerable: bool
    answer: str


class Gate(NamedTuple):
    """What a gate measured, and why it lets nothing through (None where it does)."""

    score: float
    refusal: str | None = None


def flaw(reply: Reply, what: str) -> str | None:
    """Why a free text is of no use: cut off, or empty."""
    if reply.truncated:
        return f"truncated: the {what} hit max_tokens"
    said = f" ({reply.completion.error})" if reply.completion.error else ""
    return None if reply else f"empty: the {what} has no text{said}"


def malformed(what: str, reply: Reply) -> str:
    """The refusal of a reply that could not be read as the JSON asked for, and why."""
    return f"{'truncated' if reply.truncated else 'malformed'}: the {what} {reply.unread or 'is empty'}"


def ask_rating(ctx: Context, template: str, **variables: Any) -> Ask:
    """Ask the critic for a `Rating` by the prompt file `template`."""
    cfg = ctx.config
    return ctx.ask(cfg.critic, template, schema=Rating, sampling=cfg.critic_sampling, **variables)


def rating(reply: Reply, what: str, minimum: int) -> Gate:
    """The rating in `reply`, which must be `minimum` or more."""
    found = reply.read(Rating)
    if found is None:
        return Gate(0.0, malformed(f"{what} rating", reply))
    low = found.score < minimum
    return Gate(found.score, f"low {what}: {found.score} of 5, {found.reason}" if low else None)


def ask_adherence(ctx: Context, question: str, context: str, answer: str) -> Ask:
    """Ask the critic which claims of `answer` the `context` supports."""
    cfg = ctx.config
    return ctx.ask(
        cfg.critic, "gates_claims.jinja", question=question, context=context, answer=answer,
        schema=Claims, sampling=cfg.critic_sampling,
    )  # fmt: skip


def adherence(reply: Reply, minimum: float) -> Gate:
    """The share of supported claims in a reply to `ask_adherence`, which must be `minimum` or more."""
    found = reply.read(Claims)
    if found is None:
        return Gate(0.0, malformed("list of claims", reply))
    unsupported = [one.claim for one in found.claims if not one.supported]
    share = 1 - len(unsupported) / len(found.claims)
    return Gate(
        share, f"unsupported: {share:.2f} of the claims hold, not {unsupported[0]!r}" if share < minimum else None
    )


def ask_reading(ctx: Context, question: str, passages: Sequence[Passage]) -> Ask:
    """Ask the critic to answer `question` from `passages` alone; the reply is a `Reading`."""
    cfg = ctx.config
    return ctx.ask(
        cfg.critic, "gates_reading.jinja", question=question, passages=passages,
        schema=Reading, sampling=cfg.critic_sampling,
    )  # fmt: skip


def overlap(found: str, wanted: str) -> float:
    """F1 of the words two short answers share (SQuAD; Rajpurkar et al., 2016, arXiv:1606.05250), articles counted."""
    ours, theirs = Counter(words(found)), Counter(words(wanted))
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total()) if shared else 0.0


def copied(text: str, source: str, n: int = 8) -> float:
    """The share of the word n-grams of `text` that stand in `source`; 8 words are a copy, not chance (chosen)."""
    grams = ngrams(text, n)
    return len(grams & ngrams(source, n)) / len(grams) if grams else 0.0


def over(passages: Sequence[Passage], question: str) -> str:
    """The question as the student gets it: below its passages, which are numbered from 1."""
    return f"{numbered(passages)}\n\nQuestion: {question}"


def numbered(passages: Sequence[Passage]) -> str:
    """The passages as one text, each below its number and title."""
    return "\n\n".join(
        f"Passage {number}{f' ({one.title})' if one.title else ''}:\n{one.text}"
        for number, one in enumerate(passages, 1)
    )
