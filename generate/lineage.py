"""What a recipe adds to the lineage of a sample whose ending is shared with other recipes (`voting.solve`)."""

from __future__ import annotations

from typing import Any

from generate.context import Outcome
from synthloop.records import Candidate


def traced(outcome: Outcome, **lineage: Any) -> Outcome:
    """`outcome`, with `lineage` added to that of the candidate; a refusal stays as it is."""
    if not isinstance(outcome, Candidate):
        return outcome
    return outcome.model_copy(update={"lineage": {**outcome.lineage, **lineage}})
