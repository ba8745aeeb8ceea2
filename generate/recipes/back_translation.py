"""Translation pairs whose target is a real text, their source a translation of it, judged by the way back.

Back-translation (Sennrich et al., 2016, arXiv:1511.06709): a real text in the first language of `route` is translated
along it, and the pair is the last translation -> the real text, so that the student learns to write what people wrote.
A route of three languages goes through a pivot. The last translation is taken back the same way, and chrF (Popović,
2015) between the real text and what came back must reach `min_chrf`.

    generate: {recipes: [{name: back_translation, route: [Swahili, English, German], min_chrf: 0.5}]}

The round trip sees what was lost, not whether it reads well: a translation word by word survives it. A text that is
names and numbers survives untranslated, which `max_untranslated` is against. Starts from real train rows and never from
failures, as real text becomes the completion: the row's completion, or a passage of `documents`.
"""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field, field_validator

from generate.chrf import chrf
from generate.context import Context, Conversation
from generate.documents import DocumentsConfig, draw
from generate.gates import flaw
from synthloop.records import Seed

SEEDS = "non_failures"


class Config(DocumentsConfig):
    """The languages, by their English names, from that of the real texts to that translated from by the student.

    Args:
        min_chrf: of the round trip, in [0, 1] (chosen, not measured).
        max_untranslated: the largest chrF between the real text and its translation (chosen, not measured).
    """

    route: tuple[str, ...] = Field(min_length=2)
    min_chrf: float = Field(default=0.5, ge=0, le=1)
    max_untranslated: float = Field(default=0.7, ge=0, le=1)
    max_words: int = Field(default=60, gt=0)

    @field_validator("route")
    @classmethod
    def _goes_somewhere(cls, route: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(route)) < len(route):
            raise ValueError(f"a language stands in it twice: {', '.join(route)}")
        return route


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    (passage,) = draw(cfg, seed, ctx)
    real = seed.example.completion if cfg.documents is None else passage.text

    there, back = list(pairwise(cfg.route)), list(pairwise(reversed(cfg.route)))
    texts = [real]
    for source, target in there + back:
        text = yield ctx.ask(
            "teacher", "back_translation_translate.jinja", source=source, target=target, text=texts[-1]
        )
        if refusal := flaw(text, "translation"):
            return ctx.reject(f"{refusal}, {source} to {target}")
        texts.append(text)
        if len(texts) == len(cfg.route) and chrf(text, real) > cfg.max_untranslated:
            return ctx.reject(f"untranslated: chrF {chrf(text, real):.2f} between the text and its {target}")

    round_trip = chrf(texts[-1], real)
    if round_trip < cfg.min_chrf:
        return ctx.reject(f"lost: the round trip has chrF {round_trip:.2f}")
    first, last = cfg.route[0], cfg.route[-1]
    return ctx.candidate(
        f"Translate from {last} to {first}:\n\n{texts[len(there)]}",
        real,
        answer=seed.example.answer if cfg.documents is None else None,
        gold=True,
        scores={"chrf": round_trip},
        sources=[passage.id],
        lineage={"text": passage.id, "route": list(cfg.route), "translations": [str(text) for text in texts[1:]]},
    )
