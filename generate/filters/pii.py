"""Is it free of personal data: addresses, phone and card numbers, identifiers; masked or refused.

Found by the pattern recognisers of Presidio (https://microsoft.github.io/presidio): regular expressions, checksums
(cards, IBAN) and the numbering plans of `phonenumbers`. No model, no network. A value gets the same mask wherever it
stands in problem, prompt and completion (`generate.masking`).

    curate: {filters: [{name: pii, action: mask, entities: [EMAIL_ADDRESS, PHONE_NUMBER, CREDIT_CARD]}]}

Put it before filters that look for an answer, which a mask may hide.

Limits: names, addresses and other free text need a named-entity model and pass. A match of less than `min_score`, which
Presidio would raise by the words around it, passes too. What was masked still stands in `candidates.jsonl` and the
journal: this protects the student, not the run directory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import FilterContext
from generate.masking import Action, Find, Found, hide
from synthloop.errors import UserError, did_you_mean
from synthloop.records import Candidate, Decision

# phonenumbers.Leniency.STRICT_GROUPING. Presidio's 1 takes '360-270' and '192.168.17.45' for phone numbers: 49 matches
# in 2,000 GSM8K rows; with this and the rule against arithmetic below 4, in 3 rows.
_LENIENCY = 2
_TERM_BEFORE, _TERM_AFTER = re.compile(r"\d\s*[-=*/×÷<>]\s*$"), re.compile(r"\s*[-=*/+×÷<>]+\s*[$(]?\d")
# A point is a decimal mark; a comma may as well set values of a list or a table apart, which must not leak.
_PLAIN = re.compile(r"[(\[]?(?:\d+\.\d+|\d[\d ]*)")  # a bracket may belong to a phone number
_POINT_BEFORE = re.compile(r"\d\.(?:(?:\d{3} )+|(?:\d{5} )+)?$")  # decimals may be grouped
_POINT_AFTER = re.compile(r"\.\d|e[-+]?\d", re.IGNORECASE)


class Config(BaseModel):
    """`entities` are Presidio's names, of any of its pattern recognisers; `regions` those of national phone numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action = "mask"
    entities: tuple[str, ...] = (
        "EMAIL_ADDRESS",
        "PHONE_NUMBER",
        "CREDIT_CARD",
        "IBAN_CODE",
        "US_SSN",
        "IP_ADDRESS",
        "MAC_ADDRESS",
        "CRYPTO",
    )
    regions: tuple[str, ...] = ("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR")
    min_score: float = Field(default=0.4, ge=0, le=1)


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    return hide("pii", cfg.action, batch, finder(cfg)) if batch else []


def finder(cfg: Config) -> Find:
    """A function from a text to the personal data in it, in order.

    Raises:
        UserError: Presidio is missing, or has no pattern for an entity.
    """
    recognisers = _recognisers(cfg)

    def find(text: str) -> Iterator[Found]:
        results = [
            one
            for recogniser in recognisers
            for one in recogniser.analyze(text, recogniser.supported_entities, None)
            if one.score >= cfg.min_score and not _is_arithmetic(text, one) and not _is_decimal(text, one)
        ]
        taken: list[Any] = []
        for one in sorted(results, key=lambda one: (-one.score, one.start - one.end, one.start)):
            if all(one.end <= other.start or other.end <= one.start for other in taken):
                taken.append(one)
        for one in sorted(taken, key=lambda one: one.start):
            yield Found(one.entity_type, text[one.start : one.end])

    return find


def _is_arithmetic(text: str, match: Any) -> bool:
    """Whether a phone number is rather a term of a calculation: '60000-10800 = 49200', '4000/2000'."""
    if match.entity_type != "PHONE_NUMBER":
        return False
    return bool(
        "/" in text[match.start : match.end]
        or _TERM_BEFORE.search(text[: match.start])
        or _TERM_AFTER.match(text, match.end)
    )


def _is_decimal(text: str, match: Any) -> bool:
    """Whether what was found is digits of a decimal: the 1415926535 of 3.1415926535, or 31415.92653.

    Digits only: what has hyphens, brackets or several points, as an SSN or an IP address, is part of none.
    """
    value = text[match.start : match.end]
    if not _PLAIN.fullmatch(value):
        return False
    return "." in value or bool(_POINT_BEFORE.search(text[: match.start]) or _POINT_AFTER.match(text, match.end))


def _recognisers(cfg: Config) -> list[Any]:
    try:
        from presidio_analyzer import PatternRecognizer, predefined_recognizers
    except ImportError as error:
        raise UserError("The filter 'pii' needs Presidio: pip install presidio-analyzer==2.2.366") from error
    emails = predefined_recognizers.EmailRecognizer.PATTERNS
    known = {
        "PHONE_NUMBER": predefined_recognizers.PhoneRecognizer(supported_regions=cfg.regions, leniency=_LENIENCY),
        # Without its check of the domain, which fetches the list of public suffixes from the network.
        "EMAIL_ADDRESS": PatternRecognizer(supported_entity="EMAIL_ADDRESS", patterns=emails),
    }
    for kind in vars(predefined_recognizers).values():
        if isinstance(kind, type) and issubclass(kind, PatternRecognizer):
            recogniser = kind()
            known.setdefault(recogniser.supported_entities[0], recogniser)
    for entity in cfg.entities:
        if entity not in known:
            raise UserError(
                f"curate.filters pii: Presidio has no pattern for '{entity}'. {did_you_mean(entity, known)} For all "
                "names see https://microsoft.github.io/presidio/supported_entities/"
            )
    return [known[entity] for entity in cfg.entities]
