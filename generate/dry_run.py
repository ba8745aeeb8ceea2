"""The recipes of a config played on its own rows before there is a run: `synthloop check` sees what they would ask.

Nobody answers: the replies are those of the rehearsal. What a recipe asks first, and in which roles, is what it will
ask in the run; what depends on replies may be more or less.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from generate.prompts import syntax_mistakes
from generate.rehearsal import rehearse
from generate.roles import Member, Roles, student_config
from generate.run import converse
from generate.seeds import make_seeds
from synthloop.config import Config, RecipeRef, RoleConfig
from synthloop.errors import UserError
from synthloop.records import Example, Failure, Message, Request

__all__ = ["Played", "play", "syntax_mistakes"]

NUM_SEEDS = 4
"""Seeds a recipe is given, of which the first and the last are played; chosen, not measured."""


class Played(NamedTuple):
    """One recipe: what each of its rehearsed conversations asked, and the mistake that ended them.

    `is_told`: the mistake is the message of a `UserError`, not the end of a program.
    """

    requests: list[list[Request]]
    mistake: str | None = None
    is_told: bool = False


def play(config: Config, recipe: RecipeRef, train: Sequence[Example], failed: Sequence[Example]) -> Played:
    """Play a recipe of the config.

    Args:
        train: rows of the split train.
        failed: rows, of the split that failures are taken from, that stand for failures of the student.
    """
    split = config.generate.failures_from
    failures = [
        Failure(id=one.id, split=split, example=one, response=one.completion, parsed=one.answer, truncated=False)
        for one in failed
    ]
    alone = config.generate.model_copy(update={"recipes": (recipe,), "num_seeds": NUM_SEEDS})
    whole = config.model_copy(update={"generate": alone})
    try:
        seeds, _ = make_seeds(alone, train, failures, config.seed, round=1)
        asked = rehearse(seeds, lambda chosen: converse(whole, StandIns(whole), chosen, 1))
    except UserError as error:
        return Played([], str(error), is_told=True)
    except Exception as error:  # noqa: BLE001 - a recipe of a user's is their program: it may fail in any way
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Played([], f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})")
    return Played([[ask.request for ask in one] for one in asked])


class StandIns(Roles):
    """The roles of a config before there is a run: nothing is read of their models."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def members(self, role: str) -> tuple[Member, ...]:
        return tuple(self._stand_in(one, f"{role}/{i}") for i, one in enumerate(self._config.committee(role)))

    def _stand_in(self, role: RoleConfig, name: str) -> Member:
        is_student = role is self._config.student or role.is_student
        config = student_config(self._config, role) if is_student else role.engine_config()
        bare = config.model_copy(update={"sampling": {}})
        return Member(name, role.engine, bare, config.sampling, adapter=None, identity={})

    def tokenizer(self, member: Member) -> Any:
        return _Characters()


class _Characters:
    """A tokenizer of characters, for recipes that have a text scored."""

    added_tokens_decoder: ClassVar[dict[int, Any]] = {}
    eos_token_id = 0
    name_or_path = chat_template = "a rehearsal"

    def apply_chat_template(self, messages: Sequence[Message], **_: Any) -> str:
        return "".join(f"{turn['role']}: {turn['content']}\n" for turn in messages)

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": list(map(ord, text))}

    def tokenize(self, text: str) -> list[str]:
        return list(text)
