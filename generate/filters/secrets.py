"""Is it free of credentials: keys, tokens, passwords in code, private keys; masked or refused.

Found by the detectors of detect-secrets (https://github.com/Yelp/detect-secrets), its formats of known issuers and its
search for values assigned to names like `password`. Nothing is verified with the issuer, so no network is used.

    curate: {filters: [{name: secrets, action: drop}]}

Limits: a key of an issuer it does not know passes unless it is assigned, in quotes, to a telling name. Its entropy
detectors are left out: they take any hash for a key. Made-up keys of a known format are found like real ones. What was
masked still stands in `candidates.jsonl` and the journal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from generate.curation import FilterContext
from generate.masking import Action, Find, Found, hide
from synthloop.errors import UserError, did_you_mean
from synthloop.records import Candidate, Decision

# Entropy: see the docstring. A public IP address is no secret: `pii`.
_LEFT_OUT = ("Base64HighEntropyString", "HexHighEntropyString", "IPPublicDetector")
_REST_OF_TOKEN = re.compile(r"[\w.+/=-]*(?<!\.)")
_REST_OF_KEY = re.compile(r".*?(?:-----END [^\n]*|\Z)", re.DOTALL)


class Config(BaseModel):
    """`exclude` are detectors of detect-secrets to leave out, by class name (`KeywordDetector`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action = "drop"
    exclude: tuple[str, ...] = ()


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    return hide("secrets", cfg.action, batch, finder(cfg)) if batch else []


def finder(cfg: Config) -> Find:
    """A function from a text to the secrets in it.

    Raises:
        UserError: detect-secrets is missing, or has no detector that `exclude` names.
    """
    detectors = _detectors(cfg)

    def find(text: str) -> Iterator[Found]:
        start = 0
        for line in text.splitlines(keepends=True):
            for detector in detectors:
                kind = detector.secret_type.upper().replace(" ", "_")
                for value in _values(detector, line, text[start:]):
                    yield Found(kind, value)
            start += len(line)

    return find


def _values(detector: Any, line: str, rest: str) -> Iterator[str]:
    """The secrets in `line`, with which `rest` of the text begins, whole."""
    found = set(detector.analyze_string(line))
    if not found:
        return
    if not hasattr(detector, "denylist"):  # the keyword detector, which gives the assigned values
        yield from sorted(value for value in found if not _is_placeholder(value))
        return
    # Some detectors give a part of their match ('ghp'), and some patterns match but the beginning of a token.
    end = _REST_OF_KEY if detector.secret_type == "Private Key" else _REST_OF_TOKEN
    for pattern in detector.denylist:
        for match in pattern.finditer(line):
            tail = end.match(rest, match.end())
            yield rest[match.start() : tail.end() if tail else match.end()]


def _is_placeholder(value: str) -> bool:
    """What detect-secrets itself takes for a stand-in: '${PASSWORD}', '<key>', '*****', 'abcdef'."""
    from detect_secrets.filters import heuristic

    return bool(
        heuristic.is_templated_secret(value)
        or heuristic.is_prefixed_with_dollar_sign(value)
        or heuristic.is_not_alphanumeric_string(value)
        or heuristic.is_sequential_string(value)
    )


def _detectors(cfg: Config) -> list[Any]:
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    except ImportError as error:
        raise UserError("The filter 'secrets' needs detect-secrets: pip install detect-secrets==1.5.0") from error
    known = {kind.__name__: kind for kind in get_mapping_from_secret_type_to_class().values()}
    for name in cfg.exclude:
        if name not in known:
            raise UserError(f"curate.filters secrets: no detector '{name}'. {did_you_mean(name, known)}")
    return [known[name]() for name in sorted(known) if name not in (*_LEFT_OUT, *cfg.exclude)]
