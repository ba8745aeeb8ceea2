"""`synthloop check`: every config mistake before any model is loaded, all at once, in under a second.

Beyond the schema: plugin settings, names that upstream classes don't know, files and folders that are not there, model
folders without tokenizer, templates that drop a turn, LoRA ranks above the engine's limit, prompts longer than the
context, data files that don't parse.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox
from pydantic import ValidationError

from synthloop import plugins, upstream
from synthloop.config import Config, PluginRef, RoleConfig
from synthloop.errors import UserError, did_you_mean
from synthloop.records import Example
from synthloop.schema import describe
from synthloop.task import Task, open_task


def check_config(config: Config, where: str) -> None:
    """Raises `UserError` with one line for every mistake found in `config`, which was read from `where`."""
    mistakes = [f"{where}: {mistake}" for check in CHECKS for mistake in check(config)]
    if mistakes:
        raise UserError("\n".join(mistakes))


def _configure(kind: plugins.Kind, name: str, settings: dict[str, Any], path: str) -> Iterator[str]:
    """Mistakes in one plugin's name or settings."""
    try:
        module = plugins.load(kind, name)
        module.Config(**settings)
    except UserError as error:
        yield f"'{path}': {error}"
    except ValidationError as error:
        yield from describe(error, module.Config, prefix=f"{path}.")


def _plugins(config: Config) -> Iterator[str]:
    yield from _configure("task", config.task.name, config.task.settings, "task")
    for path, kind, one in _asking(config):
        yield from _configure(kind, one.name, one.settings, path)
    for path, role in _engines(config):
        yield from _configure("engine", role.engine, role.settings, path)
    yield from _objective(config)


def _objective(config: Config) -> Iterator[str]:
    """The objective's name, then its settings, which are the section `train` itself."""
    named = list(_configure("objective", config.train.objective, {}, "train.objective"))
    yield from named
    if not named:
        given = {"args": config.train.args, "lora": config.train.lora, "quantization": config.train.quantization}
        yield from _configure("objective", config.train.objective, given, "train")


def _engines(config: Config) -> Iterator[tuple[str, RoleConfig]]:
    """(path in the config, role) for the student and every member of every role."""
    yield "student", config.student
    for role, members in config.roles.items():
        for index, member in enumerate(members):
            yield f"roles.{role}.{index}" if len(members) > 1 else f"roles.{role}", member


def _names(path: str, given: Iterable[str], kind: upstream.Kind) -> Iterator[str]:
    known = upstream.accepted(kind)
    for name in given:
        if known is not None and name not in known:
            yield f"unknown key '{path}.{name}'. {did_you_mean(name, known)}"


def _sampling(config: Config) -> Iterator[str]:
    """Sampling settings of the stages themselves; an engine's and an objective's are checked by their own `Config`."""
    yield from _names("eval.sampling", config.eval.sampling, "sampling_params")
    yield from _names("collapse.sampling", config.collapse.sampling, "sampling_params")


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
    if (
        by_itself or any(role.is_student for _, role in _engines(config))
    ) and config.generate.max_depth < config.rounds:
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
    for index, recipe in enumerate(config.generate.recipes):
        yield f"generate.recipes.{index}", "recipe", recipe
    for index, one in enumerate(config.curate.filters):
        yield f"curate.filters.{index}", "filter", one


def _paths(config: Config) -> Iterator[str]:
    if not config.train.accelerate.is_file():
        yield f"'train.accelerate': no such file {config.train.accelerate}. Shipped ones: configs/accelerate/*.yaml."
    controls = config.collapse.controls
    if controls is not None and not controls.is_file():
        yield f"'collapse.controls': no such file {controls}. `python -m eval.controls` writes one."
    if config.mix.replay is not None and not config.mix.replay.is_file():
        yield f"'mix.replay': no such file {config.mix.replay}. Expected a JSONL file of training rows."
    prompts = config.generate.prompts
    if prompts is not None and not prompts.is_dir():
        yield f"'generate.prompts': no such folder {prompts}."


def _models(config: Config) -> Iterator[str]:
    system = bool(config.task.settings.get("system"))
    for path, role in _engines(config):
        model = role.settings.get("model")
        if isinstance(model, str) and not role.is_student and role.engine != "server":
            for mistake in _model(Path(model), role.settings.get("tokenizer"), system and path == "student"):
                yield f"'{path}.model': {mistake}"


def looks_local(model: str | Path) -> bool:
    """Whether a model name is meant as a folder: it exists, or its first part does, or it starts like a path."""
    path = Path(model)
    return (
        path.exists()
        or str(model).startswith((".", "/", "~"))
        or (len(path.parts) > 1 and Path(path.parts[0]).is_dir())
    )


def _model(folder: Path, tokenizer: str | None, system: bool) -> Iterator[str]:
    if not looks_local(folder):
        return
    if not folder.is_dir():
        yield f"no such folder {folder}. Expected a Hugging Face model folder or a hub id."
        return
    if not (folder / "config.json").is_file():
        yield f"{folder} has no config.json, so it is not a Hugging Face model folder."
    if tokenizer is not None:
        return
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        yield f"{folder} has no tokenizer (tokenizer.json). Copy the tokenizer's files there, or set `tokenizer:`."
        return
    template = chat_template(folder)
    if template is None:
        yield f"the tokenizer in {folder} has no chat template. Add chat_template.jinja, or take an instruct model."
    else:
        yield from _dropped_turns(template, folder, system)


def chat_template(folder: Path) -> str | None:
    """The chat template in a model folder, from its own file or from tokenizer_config.json."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    template = json.loads(config.read_text(encoding="utf-8")).get("chat_template") if config.is_file() else None
    return template if isinstance(template, str) else None


def _dropped_turns(source: str, folder: Path, system: bool) -> Iterator[str]:
    """Turns the template loses or refuses. Templates run in Jinja's sandbox with what transformers gives them."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda _: "1 January 2026"}
    environment.filters["tojson"] = lambda value, **_: json.dumps(value)
    turns = [{"role": role, "content": f"{role}-turn"} for role in (("system", "user") if system else ("user",))]
    try:
        text = environment.from_string(source).render(
            messages=turns, add_generation_prompt=True, bos_token="", eos_token="", tools=None
        )
    except jinja2.TemplateError as error:
        if "unknown tag 'generation'" not in str(error):
            yield f"the chat template of {folder} refuses these turns: {error}."
        return
    for turn in turns:
        if turn["content"] not in text:
            yield (
                f"the chat template of {folder} drops the {turn['role']} turn. Put the instruction into `task.prompt` "
                "and leave `task.system` out, or fix the template."
            )


def _lora(config: Config) -> Iterator[str]:
    rank = config.train.lora.get("r", 8)
    if not isinstance(rank, int) or rank <= 0:
        yield f"'train.lora.r' is {rank!r}; expected a whole number above 0."
        return
    ranks = upstream.lora_ranks()
    if config.student.engine != "vllm_offline" or not ranks:
        return
    limit = config.student.settings.get("args", {}).get("max_lora_rank", max(ranks))
    if rank > limit:
        yield (
            f"'train.lora.r' is {rank}, above the limit {limit} of the engine that evaluates the student. Lower it, or "
            f"raise student.args.max_lora_rank (vLLM allows up to {max(ranks)})."
        )


def _data(config: Config) -> Iterator[str]:
    """Reads all local data: files that are missing or don't parse, empty splits, prompts longer than the context."""
    try:
        task = open_task(config.task.name, config.task.settings)
        if getattr(task.config, "dataset", None) is not None:
            return
        splits = {name: list(task.load(name)) for name in ("train", "validation", "test")}
    except ValidationError:
        return
    except UserError as error:
        yield f"'task': {error}"
        return
    if not splits["train"]:
        yield f"'task': '{config.task.name}' gives no train rows, and the loop needs real data to train on."
    yield from _long_prompts(config, task, [row for rows in splits.values() for row in rows])


def _long_prompts(config: Config, task: Task, rows: list[Example], probes: int = 32) -> Iterator[str]:
    """Of the `probes` longest prompts (in characters), those that leave the student no room to answer."""
    model = Path(config.student.model)
    file, limit = model / "tokenizer.json", _context(config)
    if limit is None or not file.is_file():
        return
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    longest = sorted(rows, key=lambda row: sum(len(turn["content"]) for turn in row.messages), reverse=True)[:probes]
    sizes = [sum(len(tokenizer.encode(turn["content"]).ids) for turn in row.messages) for row in longest]
    over = [(size, row) for size, row in zip(sizes, longest, strict=True) if size >= limit]
    if over:
        size, row = over[0]
        yield (
            f"at least {len(over)} prompts are longer than the student's context: the example {row.id} has {size} "
            f"tokens before the template, the context is {limit}. Shorten them, or raise student.args.max_model_len."
        )


def _context(config: Config) -> int | None:
    """The student's context in tokens: `args.max_model_len`, else the model's own limit; None where unknown here."""
    asked = config.student.settings.get("args", {}).get("max_model_len")
    if asked is not None:
        return int(asked)
    file = Path(config.student.model) / "config.json"
    if not file.is_file():
        return None
    limit = json.loads(file.read_text(encoding="utf-8")).get("max_position_embeddings")
    return None if limit is None else int(limit)


CHECKS: tuple[Callable[[Config], Iterator[str]], ...] = (
    _plugins,
    _sampling,
    _usage,
    _paths,
    _models,
    _lora,
    _data,
)
"""Each yields its mistakes; all are run, so that one call shows everything."""
