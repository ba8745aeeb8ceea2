"""Which real rows a prompt shows beside the one at hand.

Where answers are labels, rows that all carry one label would give it away: to whom a new problem is put, for a vote or
a verdict, is to find the label and not to read it off. There rows are drawn label by label, whatever the label at hand.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest

from synthloop.records import Example


def by_label(rows: Sequence[Example]) -> dict[str | None, list[Example]]:
    """Label -> its rows, labels sorted; those with a single row only where fewer than two have more, as the example at
    hand may be that row and its label would be the one that is never shown."""
    groups: dict[str | None, list[Example]] = defaultdict(list)
    for row in rows:
        groups[row.answer].append(row)
    several = {name for name, group in groups.items() if len(group) > 1}
    return {name: groups[name] for name in sorted(several if len(several) > 1 else groups, key=str)}


def draw_across(
    labels: Mapping[str | None, Sequence[Example]], number: int, draw: random.Random, without: str
) -> tuple[Example, ...]:
    """`number` rows, the labels in a drawn order and in turn, none of them the row with the id `without`."""
    order = draw.sample(list(labels), min(len(labels), number + 1))

    def rows(label: str | None) -> Iterator[Example]:
        # One more than needed, in case the row at hand is drawn.
        chosen = draw.sample(labels[label], min(number + 1, len(labels[label])))
        return (one for one in chosen if one.id != without)

    in_turn = zip_longest(*map(rows, order))
    return tuple(islice((one for turn in in_turn for one in turn if one is not None), number))
