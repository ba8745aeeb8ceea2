"""How far judges agree beyond chance.

krippendorff([["pass", "pass"], ["pass", "fail"], ["fail", "fail"]])    # 0.44
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def observed(units: Sequence[Sequence[str]]) -> float | None:
    """The share of pairs of verdicts on the same unit that are the same, the mean over units; None without a pair."""
    shares = [_same_pairs(unit) / (len(unit) * (len(unit) - 1)) for unit in units if len(unit) > 1]
    return sum(shares) / len(shares) if shares else None


def krippendorff(units: Sequence[Sequence[str]]) -> float | None:
    """Krippendorff's alpha for nominal verdicts: 1 is perfect agreement, 0 what chance gives, below 0 worse than that.

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: it allows missing verdicts, and a unit
    with a single one counts for nothing.

    Args:
        units: the verdicts on each unit, one for each judge that gave one.

    Returns:
        None where no unit has two verdicts, or where all verdicts are the same, so that chance is not defined.
    """
    paired = [unit for unit in units if len(unit) > 1]
    totals = Counter(verdict for unit in paired for verdict in unit)
    n = totals.total()
    if len(totals) < 2:
        return None
    same = sum(_same_pairs(unit) / (len(unit) - 1) for unit in paired)
    same_by_chance = sum(count * (count - 1) for count in totals.values()) / (n - 1)
    return (same - same_by_chance) / (n - same_by_chance)


def _same_pairs(unit: Sequence[str]) -> int:
    """Ordered pairs of equal verdicts."""
    return sum(count * (count - 1) for count in Counter(unit).values())
