"""Claims against their context, one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from generate.filters import adherence
from synthloop.records import Decision, Request
from tests.generate import rows
from tests.generate.filters import ruled

INPUT = "Passage 1:\nThe pump is red. It holds oil.\n\nQuestion: What colour is the pump?"
PATTERN = "(?s)^(Passage 1.*)Question: "


def replies(claims: list[str]) -> Any:
    """Claims in full, then support for those whose last word stands in the context."""

    def reply(model: str, request: Request) -> str:
        text = request.messages[-1]["content"]
        if "<claim>" not in text:
            return json.dumps({"claims": claims})
        claim = text.partition("<claim>\n")[2].partition("\n</claim>")[0]
        context = text.partition("<context>\n")[2].partition("\n</context>")[0]
        return "{" if claim == "broken" else json.dumps({"reason": "so", "supported": claim.split()[-1] in context})

    return reply


@pytest.mark.parametrize(
    ("claims", "reason", "score"),
    [
        (["It is red", "It holds oil"], None, 1.0),
        (["It is red", "It is new"], "unsupported: 1 of 2 claims, e.g. 'It is new'", 0.5),
        (["It is red", "broken"], None, 1.0),
        (["It is new", "broken"], "unsupported: 1 of 1 claims, e.g. 'It is new'", 0.0),
        (["broken"], "malformed: the verdict on a claim is not JSON ('{')", None),
        (["Its colour"], "unsupported: 1 of 1 claims, e.g. 'Its colour'", 0.0),
        ([" "], "malformed: the list of claims is empty", None),
        ([], "malformed: the list of claims does not fit its schema (claims: ", None),
    ],
)
def test_the_share_of_supported_claims(
    tmp_path: Path, claims: list[str], reason: str | None, score: float | None
) -> None:
    one = rows.candidate(input=INPUT, completion="It is red.")
    ctx = ruled.context(tmp_path, reply=replies(claims))
    (decision,) = adherence.check(adherence.Config(context=PATTERN), [one], ctx)
    assert (decision.reason or "").startswith(reason or "")
    assert (decision.keep, decision.score) == (reason is None, score)


def test_what_has_no_context_is_kept_unjudged(tmp_path: Path) -> None:
    ctx = ruled.context(tmp_path, reply=replies(["x new"]))
    batch = [rows.candidate(1), rows.candidate(2, input=INPUT)]
    decisions = adherence.check(adherence.Config(context=PATTERN), batch, ctx)
    assert decisions[0] == Decision(keep=True)
    assert not decisions[1].keep
    assert len(ruled.Rules.asked) == 2


def test_without_a_pattern_the_whole_input_is_the_context(tmp_path: Path) -> None:
    ctx = ruled.context(tmp_path, reply=replies(["About the pump?"]))
    (decision,) = adherence.check(adherence.Config(), [rows.candidate(input=INPUT)], ctx)
    assert decision == Decision(keep=True, score=1.0)


@pytest.mark.parametrize("pattern", ["(", "no group"])
def test_a_bad_pattern_is_told(pattern: str) -> None:
    with pytest.raises(ValidationError, match="regular expression|no group"):
        adherence.Config(context=pattern)
