"""Found in a candidate and not to be learned: refuse the candidate, or mask the values in all of its texts.

A value is masked by its kind and number, `[EMAIL_ADDRESS_1]`, the same wherever it stands, so that an answer which
repeats the problem's address still does. What was found is counted in the lineage; the value itself is not kept there.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from generate.curation import KEEP, refuse
from synthloop.characters import whole_word
from synthloop.records import Candidate, Decision

log = logging.getLogger("synthloop.curate")

Action = Literal["mask", "drop"]


class Found(NamedTuple):
    """A value to hide, as it stands in the text, and its kind in capitals (`EMAIL_ADDRESS`)."""

    kind: str
    value: str


Find = Callable[[str], Iterable[Found]]


def hide(name: str, action: Action, batch: Sequence[Candidate], find: Find) -> list[Decision]:
    """The filter `name`: its decision on each of `batch`, whose texts are searched by `find`; kinds are logged."""
    total: Counter[str] = Counter()
    decisions = []
    for one in batch:
        found = list(dict.fromkeys(value for text in texts(one) for value in find(text)))
        counts = Counter(each.kind for each in found)
        total += counts
        decisions.append(_decide(name, action, one, found, counts))
    if total:
        verb = "masked" if action == "mask" else "refused for"
        log.info("%s: %s %s", name, verb, ", ".join(f"{count} {kind}" for kind, count in total.most_common()))
    return decisions


def texts(one: Candidate) -> list[str]:
    """The distinct texts of a candidate: problem, prompt, completions, answer, votes."""
    turns = [turn["content"] for turn in one.messages]
    every = (one.input, *turns, one.completion, one.rejected, one.answer, *one.votes)
    return list(dict.fromkeys(text for text in every if text))


def _decide(name: str, action: Action, one: Candidate, found: list[Found], counts: Counter[str]) -> Decision:
    if not found:
        return KEEP
    if action == "drop":
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        return refuse(f"{found[0].kind}: {told}", len(found))
    masked = {**one.lineage.get("masked", {}), name: dict(counts)}
    # The lineage is among the changes so that what was replaced, which curation keeps there, is not.
    changes = {**_masked(one, found), "lineage": {**one.lineage, "masked": masked}}
    return Decision(keep=True, score=len(found), changes=changes)


def _masked(one: Candidate, found: Sequence[Found]) -> dict[str, Any]:
    """The fields of `one` that change, every value of `found` replaced by its mask."""
    numbers: Counter[str] = Counter()
    masks = {}
    for kind, value in found:
        if value not in masks:
            numbers[kind] += 1
            masks[value] = f"[{kind}_{numbers[kind]}]"
    # The longest first, for one may begin another; and whole words, for a short one may stand in a longer number.
    pattern = re.compile("|".join(map(whole_word, sorted(masks, key=len, reverse=True))))

    def mask(text: str | None) -> str | None:
        return text if text is None else pattern.sub(lambda match: masks[match.group()], text)

    fields = {
        "input": mask(one.input),
        "messages": tuple({**turn, "content": mask(turn["content"])} for turn in one.messages),
        "completion": mask(one.completion),
        "rejected": mask(one.rejected),
        "answer": mask(one.answer),
        "votes": tuple(map(mask, one.votes)),
    }
    return {field: value for field, value in fields.items() if value != getattr(one, field)}
