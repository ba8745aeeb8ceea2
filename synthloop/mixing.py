"""The settings of the mix: how much real, synthetic and replayed data a round trains on (docs/mix.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Ratio = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Synthetic (or replayed) per real."""

POLICIES = ("capped", "fixed", "schedule", "adaptive", "accumulate", "replace")
READ_BY = {
    "max_synthetic_ratio": ("capped", "adaptive"),
    "synthetic_ratio": ("fixed",),
    "schedule": ("schedule",),
    "ratios": ("adaptive",),
    "proxies": ("adaptive",),
    **dict.fromkeys(
        ("num_rows", "min_real_fraction", "weights", "replay", "replay_ratio"),
        tuple(policy for policy in POLICIES if policy != "replace"),
    ),
}
"""The settings of `mix` that only some policies read: those of the ratio, and what real rows are needed for."""


class Proxies(BaseModel):
    """The trainings that `adaptive` compares ratios by: each ratio with `seeds` seeds, scored on `gate`.

    A proxy trains as the round does, on at most `max_real_rows` real rows and as large a part of the synthetic ones;
    below that it is a whole training. Another ratio is taken where the lower bound of its gain is above 0, at the level
    `alpha` shared out over the ratios.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: int = Field(default=2, ge=2)
    max_real_rows: int = Field(default=1000, gt=0)
    alpha: float = Field(default=0.05, gt=0, lt=1)


class Mix(BaseModel):
    """Which rows the student trains on, and what each source weighs in the loss (docs/mix.md).

    Under every policy but `replace` all real rows are kept. Synthetic rows are, counted in `unit`, at most
    `max_synthetic_ratio` x real (`capped`), `synthetic_ratio` x real (`fixed`), the round's entry of `schedule` x real,
    the last one repeating (`schedule`), or all there are (`accumulate`). `replace`, for studies of collapse, takes the
    newest round's synthetic rows and no real one. A setting that the policy does not read is refused.

    `num_rows` repeats real rows until the mix has that many rows (the real-only control at equal size), and
    `min_real_fraction` until real rows are that share of the mix, in `unit`. `weights` scale the loss of a source:
    `real`, `synthetic`, `replay`, or `recipe:NAME` in place of `synthetic` for what that recipe wrote. `replay` is
    JSONL of rows of earlier skills (formats: train/rows.py), of which `replay_ratio` x real, in `unit`, is added.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Literal["capped", "fixed", "schedule", "adaptive", "accumulate", "replace"] = "capped"
    max_synthetic_ratio: Ratio = 1.0
    synthetic_ratio: Ratio | None = None
    schedule: tuple[Ratio, ...] | None = Field(default=None, min_length=1)
    ratios: tuple[Ratio, ...] = Field(default=(0, 0.25, 0.5, 1, 2, 4), min_length=2)
    proxies: Proxies = Proxies()
    unit: Literal["tokens", "rows"] = "tokens"
    num_rows: int | None = Field(default=None, gt=0)
    min_real_fraction: float | None = Field(default=None, gt=0, lt=1)
    weights: dict[str, Ratio] | None = None
    replay: Path | None = None
    replay_ratio: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    def ratio(self, round: int) -> float | None:
        """Synthetic per real that is asked for in `round`; None where the policy has no bound."""
        if self.policy == "schedule":
            assert self.schedule is not None, self
            return self.schedule[min(round, len(self.schedule)) - 1]
        if self.is_capped:
            return self.max_synthetic_ratio
        return self.synthetic_ratio if self.policy == "fixed" else None

    @property
    def is_capped(self) -> bool:
        """Whether `max_synthetic_ratio` holds."""
        return self._reads("max_synthetic_ratio")

    def settled(self, ratio: float) -> Mix:
        """The mix with the ratio that `adaptive` has found."""
        return self.model_copy(update={"max_synthetic_ratio": ratio})

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, data: Any) -> Any:
        """So that an override can take back what a file sets."""
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _refuse_mistakes(self) -> Mix:
        mistakes = [*self._policy_mistakes(), *self._weight_mistakes()]
        if mistakes:
            raise ValueError(" ".join(mistakes))
        return self

    def _policy_mistakes(self) -> Iterator[str]:
        unread = [name for name in Mix.model_fields if name in self.model_fields_set and not self._reads(name)]
        own = {"fixed": "synthetic_ratio", "schedule": "schedule"}.get(self.policy)
        if unread:
            yield (
                f"the policy '{self.policy}' does not read {', '.join(unread)}: leave it out (an override sets it to "
                "null), or choose another policy."
            )
        if own and getattr(self, own) is None:
            yield f"the policy '{self.policy}' needs {own}."
        if (self.replay is None) != (self.replay_ratio is None):
            yield "replay and replay_ratio are set together: the file, and how much of it per real data."

    def _weight_mistakes(self) -> Iterator[str]:
        sources = ["real", "synthetic", *(["replay"] if self.replay else [])]
        for name in self.weights or {}:
            if name not in sources and not name.startswith("recipe:"):
                yield f"weights: unknown source '{name}'. Expected {', '.join(sources)} or recipe:NAME."
        if (self.weights or {}).get("real") == 0:
            yield "weights: real is 0. Real rows are left out by policy: replace alone."

    def _reads(self, name: str) -> bool:
        return self.policy in READ_BY.get(name, POLICIES)

    @model_serializer(mode="wrap")
    def _without_the_unread(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What the policy reads, so that it reads back; what is unset is left out, save `num_rows`, which is older."""
        written = {name: value for name, value in write(self).items() if self._reads(name)}
        return {name: value for name, value in written.items() if value is not None or name == "num_rows"}


class MixOverride(BaseModel):
    """What the loop asks of one round beyond the config, and why: `round-NNN/mix_override.json`.

    It only tightens: synthetic per real is at most `max_synthetic_ratio`, real rows are at least `min_real_fraction` of
    the mix. Under `replace` the second brings real rows back.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_synthetic_ratio: Ratio | None = None
    min_real_fraction: float | None = Field(default=None, ge=0, lt=1)
    reason: str = Field(min_length=1)


class Bounds(NamedTuple):
    """What holds for one round: synthetic per real (None: no bound), and the least share of real rows."""

    synthetic_per_real: float | None
    min_real_fraction: float


def bounds(policy: Mix, round: int, override: MixOverride | None) -> Bounds:
    """The bounds of `round`: those of the policy, tightened by the override."""
    ratios = [policy.ratio(round), override.max_synthetic_ratio if override else None]
    shares = [policy.min_real_fraction, override.min_real_fraction if override else None]
    return Bounds(
        min((ratio for ratio in ratios if ratio is not None), default=None),
        max(share or 0.0 for share in shares),
    )
