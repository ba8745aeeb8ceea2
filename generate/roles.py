"""Roles: who is asked. The config's engines for each role, the models that share one, and when each is loaded.

Roles whose engine settings are the same (sampling aside) share one engine. Engines are opened when first asked, so a
resumed stage whose replies are all in the journal loads no model.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from synthloop import chat, plugins
from synthloop.config import Config, RoleConfig
from synthloop.engines import Engine, EngineConfig, identity, num_devices
from synthloop.errors import UserError
from synthloop.store import Run, read_json

log = logging.getLogger("synthloop.generate")

JUDGING = frozenset({"judge", "reward"})
"""Roles whose replies select text and write none: they add no generation depth."""


class Member(NamedTuple):
    """One engine that plays a role.

    `engine` names it among those of the run, `identity` is what the journal keys on, `depth` the generation depth of
    the synthetic data its model was trained on by this run (0 for a model from outside).
    """

    engine: str
    name: str
    config: EngineConfig
    sampling: dict[str, Any]
    adapter: Path | None
    identity: dict[str, Any]
    depth: int = 0


class Roles:
    """The members of every role, resolved once asked for."""

    def __init__(self, run: Run, round: int) -> None:
        self._run = run
        self._accepted = run.accepted_round(round)
        self._members: dict[str, tuple[Member, ...]] = {}
        self._tokenizers: dict[str, Any] = {}

    def members(self, role: str) -> tuple[Member, ...]:
        """The engines that play `role`, one or a committee. Raises `UserError` for a role not in the config."""
        if role not in self._members:
            self._members[role] = tuple(self._member(one) for one in self._run.config.committee(role))
        return self._members[role]

    def tokenizer(self, member: Member) -> Any:
        """The tokenizer of a member's model, loaded once. Raises `UserError`."""
        cfg = member.config
        if member.engine not in self._tokenizers:
            self._tokenizers[member.engine] = chat.load_tokenizer(cfg.tokenizer or cfg.model, cfg.revision)
        return self._tokenizers[member.engine]

    def all_members(self) -> list[Member]:
        """Every member of every role, the student's own included: those that may have to share the device."""
        names = dict.fromkeys([*self._run.config.roles, "student"])
        return [member for role in names for member in self.members(role)]

    def _member(self, role: RoleConfig) -> Member:
        student = self._run.config.student
        is_student = role is student or role.is_student
        adapter = self._run.adapter(self._accepted) if is_student else None
        config = student_config(self._run.config, role) if is_student else role.engine_config()
        # Sampling is merged into each request, where the journal sees it; roles that share an engine differ in it.
        bare = config.model_copy(update={"sampling": {}})
        return Member(
            engine=json.dumps([role.engine, bare.model_dump(mode="json"), str(adapter)], sort_keys=True),
            name=role.engine,
            config=bare,
            sampling=config.sampling,
            adapter=adapter,
            identity=identity(bare, adapter),
            depth=self._depth() if is_student else 0,
        )

    def _depth(self) -> int:
        if self._accepted == 0:
            return 0
        return int(read_json(self._run.round_dir(self._accepted) / "mix.json")["max_depth"])


def student_config(config: Config, role: RoleConfig) -> EngineConfig:
    """The engine config of a role played by the student: its model, and its engine settings where none are given.

    Another engine has other arguments; what makes the prompt is the student's own on each.
    """
    student = config.student
    shared = {"tokenizer", "chat_template_kwargs"} if role.engine != student.engine else student.settings.keys()
    inherited = {name: value for name, value in student.settings.items() if name in shared}
    settings = {**inherited, **role.settings, "model": student.model, "revision": student.revision}
    engine_config: EngineConfig = plugins.configure("engine", role.engine, settings)
    return engine_config


def asked(config: Config) -> set[str]:
    """The roles that the config's recipes ask: `teacher`, and those their settings name."""
    settings = [plugins.configure("recipe", one.name, one.settings) for one in config.generate.recipes]
    return {"teacher", *(role for one in settings for role in plugins.roles_of(one).values())}


def student_plays(config: Config) -> bool:
    """Whether a role of the recipes is played by the student, so that the accepted adapter is an input of the stage."""
    return any(role == "student" or any(one.is_student for one in config.roles.get(role, ())) for role in asked(config))


def refuse_depth(roles: Roles, config: Config, round: int) -> None:
    """Raises `UserError` where what a recipe's role writes would be deeper than `generate.max_depth`."""
    writing = asked(config) - JUDGING
    depth = 1 + max((member.depth for role in writing for member in roles.members(role)), default=0)
    if depth > config.generate.max_depth:
        raise UserError(
            f"Round {round}: the student writes for itself, and was trained on synthetic data of depth {depth - 1}, so "
            f"its samples would have depth {depth}, above generate.max_depth={config.generate.max_depth}. Training on "
            f"one's own samples again and again is how models collapse; to opt in, set generate.max_depth={depth}."
        )


def _holds_device(member: Member) -> bool:
    """Whether the model is loaded on this machine: in this process, or by a server that we start."""
    return num_devices(member.config) > 0


class Engines:
    """The open engines. Those that do not fit on our device together are exclusive: one is open at a time.

    `devices` is the most that one of those opened so far holds: all start on the same first devices of the machine.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        self._members = {member.engine: member for member in members}
        self._open: dict[str, Engine] = {}
        self.devices = 0

    def is_exclusive(self, engine: str) -> bool:
        """Whether `engine` is on our device, with others that ask for more than its memory between them."""
        on_device = [member for member in self._members.values() if _holds_device(member)]
        asked = sum(float(member.config.args.get("gpu_memory_utilization", 1.0)) for member in on_device)
        return _holds_device(self._members[engine]) and len(on_device) > 1 and asked > 1.0

    def is_ready(self, engine: str) -> bool:
        """Whether `engine` can be asked now without closing another."""
        return engine in self._open or not self.is_exclusive(engine) or not self._blocking()

    def _blocking(self) -> list[str]:
        return [engine for engine in self._open if self.is_exclusive(engine)]

    def get(self, engine: str) -> Engine:
        """The engine, opened where it is not; an exclusive one closes the exclusive one before it."""
        if engine not in self._open:
            if self.is_exclusive(engine):
                for other in self._blocking():
                    self._open.pop(other).close()
            member = self._members[engine]
            log.info("loading %s (%s)", member.config.model, member.name)
            self._open[engine] = plugins.load("engine", member.name).open(member.config, member.adapter)
            self.devices = max(self.devices, num_devices(member.config))
        return self._open[engine]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Engines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
