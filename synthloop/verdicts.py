"""What a row says of its own answer: whether it is good, and what it counts.

An answer that a thumbs field calls bad is left out (`label: false`, as TRL's guide to data set formats turns KTO's rows
into ones to learn from). A rating (`rating: 2`) does not say from where on an answer is good, and a preference pair is
for `dpo`: both are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from synthloop.conversations import PAIR, PAIR_REMEDY, LeftOut, is_filled
from synthloop.errors import UserError

THUMBS = (
    *("label", "kto", "kto_tag", "kto_label", "thumb", "thumbs", "thumbs_up", "feedback", "liked"),
    *("correct", "is_correct", "good", "is_good", "accepted", "is_accepted", "desirable", "is_desirable"),
)
"""Fields that say whether the answer is good, in the words of GOOD and BAD; with others (a topic) they say nothing."""
GOOD = ("true", "good", "up", "thumbs up", "👍", "like", "accepted", "desirable")
BAD = ("false", "bad", "down", "thumbs down", "👎", "dislike", "rejected", "undesirable")
RATINGS = ("rating", "ratings", "stars")
_SKIN_TONES = "🏻🏼🏽🏾🏿\ufe0f"


def heed_verdict(row: dict[str, Any], read: Iterable[str], where: str, remedy: str) -> set[str]:
    """Follow what `row` says of its own answer in fields that are not `read`; the names of those that call it good.

    Raises:
        LeftOut: a thumbs field calls the answer bad.
        UserError: a rating, a preference, or a thumb that is no true or false. It ends with `remedy`.
    """
    heeded = set()
    for name in sorted(row.keys() - set(read)):
        value = row[name]
        if not is_filled(value):
            continue
        thumb = str(value).strip().lower().replace("_", " ").rstrip(_SKIN_TONES) if name in THUMBS else ""
        if thumb in BAD:
            raise LeftOut(f"an answer that `{name}` calls bad")
        if thumb in GOOD:
            heeded.add(name)
        elif thumb in ("-1", "0", "1", "-1.0", "0.0", "1.0"):
            raise UserError(
                f"{where}: '{name}' is {value!r}. If it says whether the answer is good: true or false. {remedy}"
            )
        elif name in RATINGS:
            raise UserError(
                f"{where}: '{name}' is {value!r:.80}, and it is not known from where on an answer is good enough to "
                f'learn. Choose (here 4), and take the field out: python -c "import json, sys; [print(json.dumps(row)) '
                f"for row in map(json.loads, open(sys.argv[1])) if row.pop('{name}') >= 4]\" FILE > OTHER. {remedy}"
            )
        elif name in PAIR:
            raise UserError(f"{where}: '{name}' makes the row a preference. {PAIR_REMEDY} {remedy}")
    return heeded


def row_weight(row: dict[str, Any], where: str, remedy: str = "") -> float:
    """The `weight` of a row; 1 where it has none. Raises `UserError`, ending with `remedy`."""
    value = 1.0 if row.get("weight") is None else row["weight"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise UserError(f"{where}: 'weight' should be a number of 0 or more, found {value!r:.200}. {remedy}".rstrip())
    return float(value)
