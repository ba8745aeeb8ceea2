"""`synthloop check`: every config mistake before any model is loaded, all at once, in about a second.

Beyond the schema: plugin settings, names and values that upstream classes don't take, files and folders that are not
there, model folders without tokenizer, templates that drop a turn, LoRA that does not fit, data that does not parse or
does not split, prompts longer than the context, recipes that fail in their rehearsal. `run` starts with the same check.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synthloop import check_models, check_recipes, plugins, schema, upstream
from synthloop.chat_template import one_time
from synthloop.check_data import Rows, long_prompts, read_rows, row_mistakes
from synthloop.check_models import engines
from synthloop.check_recipes import Rehearsal
from synthloop.config import Config, PluginRef, ReadableParts, Unread, read_config
from synthloop.errors import UserError, did_you_mean
from synthloop.findings import Findings
from synthloop.launch import visible_gpus
from synthloop.task import open_task
from synthloop.yaml_file import read_yaml

PLACEHOLDERS = {"name": "x", "task": {"name": "word_problems"}, "student": {"model": "x"}}
"""For sections that must be there and are not, or could not be read: nothing is said of what stands here."""


def check_file(path: Path, overrides: Sequence[str] = (), *, online: bool = False) -> tuple[Config, Findings]:
    """The config at `path`, and what was found beside mistakes.

    Args:
        online: ask the hub for the models and data sets that are not local.

    Raises:
        UserError: one line for every mistake, of the schema and of all that lies behind it.
    """
    data = read_config(path, overrides)
    told = schema.mistakes(Config, data)
    whole, missing, touched = schema.without_mistakes(Config, data, PLACEHOLDERS)
    parts, intact = (_readable(whole, missing), _readable(whole, touched)) if told else (whole, whole)
    return whole, _findings(parts, intact, str(path), told, online)


def check_config(config: Config, where: str) -> Findings:
    """What was found in `config`, which was read from `where`. Raises `UserError` with one line for every mistake."""
    return _findings(config, config, where, [], online=False)


def _findings(config: Config, intact: Config, where: str, told: list[str], online: bool) -> Findings:
    more, rows, rehearsal = _look(config, intact)
    told = [*told, *more]
    found = None if told else Findings(config, rows, rehearsal, online)
    if found is None or found.mistakes:
        raise UserError("\n".join(f"{where}: {one}" for one in dict.fromkeys(found.mistakes if found else told)))
    return found


def _readable(config: Config, without: set[str]) -> ReadableParts:
    parts = ReadableParts.model_construct(**{name: getattr(config, name) for name in Config.model_fields})
    for name in without & Config.model_fields.keys():
        del parts.__dict__[name]
    return parts


@one_time()
def _look(config: Config, intact: Config) -> tuple[list[str], Rows, Rehearsal]:
    """Mistakes of the sections in `config`, and what was read; `intact` has only those nothing was taken out of."""
    told: list[str] = []
    for check in CHECKS:
        with contextlib.suppress(Unread):
            for one in check(config):
                told.append(one)  # one by one: what came before `Unread` stays
    with contextlib.suppress(Unread):
        told += _usage(intact)
    rows, rehearsal = Rows(), Rehearsal()
    with contextlib.suppress(Unread):
        rows = read_rows(config)
        told += [one for check in ROW_CHECKS for one in check(config, rows)]
        rehearsal = check_recipes.rehearse(config, rows)
        told += rehearsal.mistakes
    return told, rows, rehearsal


def _configure(
    kind: plugins.Kind, name: str, settings: dict[str, Any], path: str, beside: Iterable[str] = ()
) -> Iterator[str]:
    """Mistakes in one plugin's name or settings; `beside` are the keys that stand beside them."""
    try:
        module = plugins.load(kind, name)
    except UserError as error:
        yield f"'{path}': {error}"
    else:
        yield from schema.mistakes(module.Config, settings, f"{path}.", beside)


def _task(config: Config) -> Iterator[str]:
    yield from _configure("task", config.task.name, config.task.settings, "task")


def _plugins(config: Config) -> Iterator[str]:
    for path, kind, one in _asking(config):
        yield from _configure(kind, one.name, one.settings, path, type(one).model_fields)
    for path, role in engines(config):
        yield from _configure("engine", role.engine, role.settings, path, type(role).model_fields)


def _objective(config: Config) -> Iterator[str]:
    """The objective's name, then its settings, which are the section `train` itself."""
    named = list(_configure("objective", config.train.objective, {}, "train.objective"))
    yield from named
    if not named:
        given = {"args": config.train.args, "lora": config.train.lora, "quantization": config.train.quantization}
        yield from _configure("objective", config.train.objective, given, "train")


def _sampling(config: Config) -> Iterator[str]:
    """Sampling settings of the stages themselves; an engine's and an objective's are checked by their own `Config`."""
    for path, sampling in (("eval", config.eval.sampling), ("collapse", config.collapse.sampling)):
        yield from (f"'{path}.sampling': {one}" for one in upstream.mistakes("sampling_params", sampling))


def _usage(config: Config) -> Iterator[str]:
    """Settings that contradict one another, or that nothing would read."""
    if config.train.objective == "dpo":
        yield (
            "'train.objective' is dpo, which trains on pairs alone; the loop's mix keeps every real row, and those "
            "have no rejected answer. Train on the pairs with `synthloop train CONFIG --data PAIRS.jsonl --output DIR`."
        )
    if config.generate.recipes and "teacher" not in config.roles:
        yield "'roles.teacher' is missing: the recipes need one. For self-improvement set roles.teacher.model=student."
    yield from _roles(config)
    yield from _judge(config)
    yield from _adaptive(config)
    recipes = [one for _, kind, one in _asking(config) if kind == "recipe"]
    by_itself = any("student" in _asked(one, "recipe").values() for one in recipes)
    if config.roles and not config.generate.recipes and _judge_role(config) is None:
        yield "'roles' are read by nothing, as generate.recipes is empty. Remove them, or add a recipe."
    if (by_itself or any(role.is_student for _, role in engines(config))) and config.generate.max_depth < config.rounds:
        yield (
            f"'generate.max_depth' is {config.generate.max_depth}, but a student that teaches itself reaches depth "
            f"{config.rounds} in {config.rounds} rounds. Set generate.max_depth={config.rounds} to opt in."
        )


def _judge_role(config: Config) -> str | None:
    """The role that scores the task; None where a rule does, or where the task's settings are wrong."""
    with contextlib.suppress(UserError, ValidationError):
        return open_task(config.task.name, config.task.settings).judge_role
    return None


def _judge(config: Config) -> Iterator[str]:
    """A task scored by a judge who is not there, or is the student; filters that know no judge."""
    role = _judge_role(config)
    if role is None:
        return
    if role not in config.roles:
        yield f"'task.scorer' is judge, and 'roles.{role}' is missing: who is to say whether a reply is right?"
    elif any(member.is_student for member in config.roles[role]):
        yield f"'roles.{role}' is the student, which cannot judge itself. Take another model."
    for index, one in enumerate(config.curate.filters):
        if one.name == "verify" and config.generate.recipes:
            yield (
                f"'curate.filters.{index}' (verify) compares answers as text, which says nothing where 'task.scorer' "
                "is judge. Put {name: judge} in its place."
            )


def _adaptive(config: Config) -> Iterator[str]:
    """A search, of a ratio or among recipes, that has nothing to choose from."""
    is_adaptive, num_recipes = config.mix.policy == "adaptive", len(config.generate.recipes)
    if is_adaptive and num_recipes == 0:
        yield "'mix.policy' is adaptive, but generate.recipes is empty: there is no synthetic data to choose from."
    if config.generate.allocation == "thompson" and not is_adaptive:
        yield (
            "'generate.allocation' is thompson, which goes by the trials of mix.policy: adaptive. Set that too, or "
            "leave the allocation at fixed."
        )
    if config.generate.allocation == "thompson" and num_recipes == 1:
        yield "'generate.allocation' is thompson, but generate.recipes has one entry: there is nothing to choose from."


def _roles(config: Config) -> Iterator[str]:
    """Roles that a plugin asks and the config does not have; roles of the config that nothing asks."""
    asked = {"teacher"} if config.generate.recipes else set()
    asked |= {role for role in [_judge_role(config)] if role is not None}
    for path, kind, one in _asking(config):
        for field, role in _asked(one, kind).items():
            asked.add(role)
            if role not in config.roles and role != "student":
                yield (
                    f"'{path}' ({one.name}) asks the role '{role}', and 'roles.{role}' is missing. Add it, or set "
                    f"`{field}` to one of {', '.join([*config.roles, 'student'])}."
                )
    for role in config.roles:
        if role not in asked and config.generate.recipes:
            yield f"'roles.{role}' is read by nothing. {did_you_mean(role, asked)}"


def _asked(one: PluginRef, kind: plugins.Kind) -> dict[str, str]:
    """Field -> role that the plugin asks; none where its settings are wrong, which `_plugins` reports."""
    with contextlib.suppress(UserError, ValidationError):
        return plugins.roles_of(plugins.configure(kind, one.name, one.settings))
    return {}


def _asking(config: Config) -> Iterator[tuple[str, plugins.Kind, PluginRef]]:
    """(path in the config, kind, plugin) for all recipes and filters."""
    with contextlib.suppress(Unread):
        for index, recipe in enumerate(config.generate.recipes):
            yield f"generate.recipes.{index}", "recipe", recipe
    with contextlib.suppress(Unread):
        for index, one in enumerate(config.curate.filters):
            yield f"curate.filters.{index}", "filter", one


def _paths(config: Config) -> Iterator[str]:
    if config.train.accelerate != "auto":
        yield from _accelerate(config.train.accelerate)
    controls = config.collapse.controls
    if controls is not None and not controls.is_file():
        yield f"'collapse.controls': no such file {controls}. `python -P -m eval.controls` writes one."
    if config.mix.replay is not None and not config.mix.replay.is_file():
        yield f"'mix.replay': no such file {config.mix.replay}. Expected a JSONL file of training rows."
    prompts = config.generate.prompts
    if prompts is not None and not prompts.is_dir():
        yield f"'generate.prompts': no such folder {prompts}."
    for path, kind, one in _asking(config):
        with contextlib.suppress(UserError, ValidationError):  # said by the check of plugins
            for field, file in plugins.paths_of(plugins.configure(kind, one.name, one.settings)).items():
                if not file.exists():
                    yield f"'{path}.{field}': no such file or folder {file}. A relative path starts where you are."


def _accelerate(file: Path) -> Iterator[str]:
    """A file of `accelerate launch` that is none."""
    if not file.is_file():
        yield f"'train.accelerate': no such file {file}. `auto` needs none; shipped ones: configs/accelerate/*.yaml."
    elif "distributed_type" not in accelerate_settings(file):
        yield f"'train.accelerate': {file} is no file of accelerate's (no `distributed_type`). See configs/accelerate/."


def accelerate_settings(file: Path) -> dict[str, Any]:
    """What a file of `accelerate launch` sets; empty where it cannot be read."""
    try:
        return read_yaml(file)
    except (UserError, OSError):
        return {}


def _precision(config: Config) -> Iterator[str]:
    """Half precision that a CPU does not train in."""
    file = config.train.accelerate
    on_cpu = not visible_gpus() if file == "auto" else accelerate_settings(file).get("use_cpu")
    if on_cpu and config.train.args.get("fp16") is True:
        yield (
            f"'train.args.fp16' is true, and train.accelerate ({file}) trains on the CPU here, which has no fp16. "
            "Leave it out, or train on a GPU."
        )


CHECKS: tuple[Callable[[Config], Iterator[str]], ...] = (
    _task,
    _plugins,
    _objective,
    _sampling,
    _paths,
    _precision,
    check_models.model_files,
    check_models.parallel_sizes,
    check_models.lora,
    check_recipes.prompt_files,
)
"""Each yields its mistakes; all are run, so that one call shows everything."""

ROW_CHECKS: tuple[Callable[[Config, Rows], Iterator[str]], ...] = (row_mistakes, long_prompts)
"""Those that look at the rows of the task too."""
