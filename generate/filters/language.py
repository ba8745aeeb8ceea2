"""Is it in a wanted language.

The problem and the completion are each identified by py3langid (https://github.com/adbar/py3langid; after langid.py,
Lui and Baldwin, ACL 2012), whose model of 140 languages comes with it. Refused is what it takes for another language
with at least `min_confidence`.

    curate: {filters: [{name: language, allowed: [en], min_confidence: 0.7}]}

A text of fewer than `min_letters` letters, or one it is unsure about, is kept: formulas, code and single words are no
language to it. Of 2,000 GSM8K rows (English, their answers half arithmetic) the default refuses none, 0.5 one.

Limits: close languages are told apart poorly in short texts, so allow them together ([zh, wuu, yue], [no, nb, nn]); a
text that switches language half-way counts as the longer part. Codes are ISO 639-1, or 639-3 where there is none.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import KEEP, FilterContext, refuse
from synthloop.errors import UserError, did_you_mean
from synthloop.records import Candidate, Decision

_NO_LANGUAGE = "zxx"  # ISO 639-3 for what has no linguistic content: code, formulas, random letters


class Config(BaseModel):
    """`min_letters` counts letters of any script; the defaults are chosen, not measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allowed: tuple[str, ...] = Field(min_length=1)
    min_confidence: float = Field(default=0.7, gt=0, le=1)
    min_letters: int = Field(default=20, ge=0)


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    identifier = _identifier(cfg) if batch else None
    return [_check(cfg, one, identifier) for one in batch]


def _check(cfg: Config, one: Candidate, identifier: Any) -> Decision:
    allowed = {*cfg.allowed, _NO_LANGUAGE}
    for field, text in (("problem", one.input), ("answer", one.completion)):
        if sum(character.isalpha() for character in text) < cfg.min_letters:
            continue
        # py3langid 0.4.0 is unsure of Words In Title Case (0.14 to 0.57) and sure of the same ones in small letters.
        language, confidence = identifier.classify(text.lower())
        if language not in allowed and confidence >= cfg.min_confidence:
            return refuse(f"language: the {field} is '{language}', with confidence {confidence:.2f}", confidence)
    return KEEP


def _identifier(cfg: Config) -> Any:
    """The identifier with probabilities. Raises `UserError` where it is missing or doesn't know a language."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise UserError("The filter 'language' needs py3langid: pip install py3langid==0.4.0") from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    for code in cfg.allowed:
        if code not in identifier.labels:
            hint = did_you_mean(code, identifier.labels)
            raise UserError(f"curate.filters language: py3langid doesn't know '{code}'. {hint}")
    return identifier
