"""`check`, of models: local folders, their chat templates, what divides what, LoRA."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from synthloop import taught, upstream
from synthloop.chat import completion_ids, prompt_text
from synthloop.config import Config, RoleConfig, Unread
from synthloop.engines._vllm import dropped_modules
from synthloop.errors import UserError, did_you_mean
from synthloop.folder_tokenizer import FolderTokenizer, read_tokenizer
from synthloop.lora import WITH_HF, mistakes, saved_rank
from synthloop.model_folder import linear_modules, looks_local, module_names, text_config
from synthloop.records import Example, Message, Row
from synthloop.vllm_models import architectures, embeddings_with_lora, takes_lora

VLLM = ("vllm_offline", "server")


def engines(config: Config) -> Iterator[tuple[str, RoleConfig]]:
    """(path in the config, role) for the student and every member of every role."""
    with contextlib.suppress(Unread):
        yield "student", config.student
    with contextlib.suppress(Unread):
        for role, members in config.roles.items():
            for index, member in enumerate(members):
                yield f"roles.{role}.{index}" if len(members) > 1 else f"roles.{role}", member


def served_here(config: Config) -> Iterator[tuple[str, RoleConfig]]:
    """Those of `engines` whose model is loaded by this run from its own files or the hub."""
    for path, role in engines(config):
        is_remote = role.engine == "server" and not role.settings.get("serve")
        if isinstance(role.settings.get("model"), str) and not role.is_student and not is_remote:
            yield path, role


def folders(config: Config) -> Iterator[tuple[str, RoleConfig, Path]]:
    """Those of `served_here` whose model is a folder that is there."""
    for path, role in served_here(config):
        folder = Path(role.settings["model"])
        if folder.is_dir():
            yield path, role, folder


def tokenizer_folder(role: RoleConfig) -> Path:
    """Where the role's tokenizer is, if it is local."""
    return Path(str(role.settings.get("tokenizer") or role.settings.get("model")))


def tokenizer_of(role: RoleConfig) -> FolderTokenizer | None:
    """The tokenizer of a role, where it is local and has a chat template. Raises `UserError`."""
    return read_tokenizer(tokenizer_folder(role))


def template_kwargs(role: RoleConfig) -> dict[str, Any]:
    """What the role's chat template is given beside the turns."""
    given = role.settings.get("chat_template_kwargs")
    return given if isinstance(given, dict) else {}


def model_files(config: Config) -> Iterator[str]:
    """Model folders that are not there, or lack a file; templates that refuse or drop a turn."""
    system = False
    with contextlib.suppress(Unread):
        system = bool(config.task.settings.get("system"))
    for path, role in served_here(config):
        try:
            for mistake in _model(role, system and path == "student"):
                yield f"'{path}.model': {mistake}"
        except UserError as error:
            yield f"'{path}.model': {error}"


def _model(role: RoleConfig, system: bool) -> Iterator[str]:
    folder, beside = Path(role.settings["model"]), tokenizer_folder(role)
    if not looks_local(role.settings["model"]):
        return
    if not folder.is_dir():
        yield f"no such folder {folder}. Expected a Hugging Face model folder or a hub id."
        return
    if not (folder / "config.json").is_file():
        yield f"{folder} has no config.json, so it is not a Hugging Face model folder."
    if not beside.is_dir():
        return
    if not any((beside / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        yield f"{beside} has no tokenizer (tokenizer.json). Copy the tokenizer's files there, or set `tokenizer:`."
        return
    tokenizer = read_tokenizer(beside)
    if tokenizer is None:
        yield f"the tokenizer in {beside} has no chat template. Add chat_template.jinja, or take an instruct model."
        return
    found = list(dropped_turns(tokenizer, _probe(system), template_kwargs(role)))
    yield from found or _beyond_vocabulary(tokenizer, folder, template_kwargs(role))


def _probe(system: bool) -> list[Message]:
    user = Message(role="user", content="user-turn")
    return [Message(role="system", content="system-turn"), user] if system else [user]


TASK_REMEDY = "Put the instruction into `task.prompt` and leave `task.system` out"


def dropped_turns(
    tokenizer: FolderTokenizer, turns: Sequence[Message], kwargs: dict[str, Any], remedy: str = TASK_REMEDY
) -> Iterator[str]:
    """Turns the template loses or refuses."""
    try:
        prompt_text(tokenizer, turns, **kwargs)
    except UserError as error:
        yield f"{tokenizer.name_or_path}: {error} {remedy}, or fix the template."


def _unknown(tokenizer: FolderTokenizer, folder: Path) -> dict[int, str]:
    """Id -> text of the tokens that the model in `folder` has no embedding for. Raises `UserError`."""
    size = text_config(folder).get("vocab_size")
    return tokenizer.beyond(size) if isinstance(size, int) and not isinstance(size, bool) else {}


def _beyond_vocabulary(tokenizer: FolderTokenizer, folder: Path, kwargs: dict[str, Any]) -> Iterator[str]:
    """Tokens that the model has no embedding for, where they are met: in any text, or in the template.

    Others may stand in a tokenizer that several models share; what rows hold of those is said by `student_rows`.
    """
    unknown = _unknown(tokenizer, folder)
    if not unknown:
        return
    turns, met = _probe(system=False), set(tokenizer.special_ids.values())
    with contextlib.suppress(UserError):  # a model that is only asked may have a template that writes no reply
        met |= set(completion_ids(tokenizer, turns, "reply", **kwargs))
    met |= set(tokenizer(prompt_text(tokenizer, turns, **kwargs), add_special_tokens=False)["input_ids"])
    for id, text in unknown.items():
        if id in met or id not in tokenizer.added_tokens_decoder:
            yield _too_large(tokenizer, id, text, folder)


def _too_large(tokenizer: FolderTokenizer, id: int, text: str, folder: Path) -> str:
    return (
        f"the tokenizer in {tokenizer.name_or_path} has the token {text!r} with the id {id}, and the vocabulary of the "
        f"model ends before it (vocab_size {text_config(folder)['vocab_size']} in {folder / 'config.json'}). Take the "
        "tokenizer that belongs to the model, or enlarge the model and save it anew "
        "(model.resize_token_embeddings(len(tokenizer)))."
    )


def unknown_tokens(config: Config) -> Iterator[str]:
    """Tokens that a model does not have, where `check` met none of them: a generated text may hold one yet."""
    for path, role, folder in folders(config):
        tokenizer = tokenizer_of(role)
        if tokenizer is not None and (unknown := _unknown(tokenizer, folder)):
            some = ", ".join(map(repr, list(unknown.values())[:8]))
            yield f"{path}: the model has no embedding for {len(unknown)} tokens of its tokenizer ({some})"


def student_rows(config: Config, examples: Sequence[Example]) -> Iterator[tuple[Example, str]]:
    """(row, mistake) of real rows that the student cannot be trained on: turns that its template refuses, drops or
    renders differently, and the first row with a token that the model does not have."""
    folder = Path(config.student.model)
    try:
        tokenizer = tokenizer_of(config.student)
        unknown = {} if tokenizer is None else _unknown(tokenizer, folder)
    except UserError:
        return  # said by `model_files`
    if tokenizer is None:
        return
    yield from taught.refused(tokenizer, examples, template_kwargs(config.student))
    for example in examples if unknown else ():
        if mistake := _unknown_in(example, tokenizer, unknown, folder):
            yield example, mistake
            return


def beyond_vocabulary(student: RoleConfig, rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    """(row, mistake) of training rows with a token that a local student does not have. Raises `UserError`."""
    folder, tokenizer = Path(student.settings["model"]), tokenizer_of(student)
    if folder.is_dir() and tokenizer is not None and (unknown := _unknown(tokenizer, folder)):
        for row in rows:
            if mistake := _unknown_in(row, tokenizer, unknown, folder):
                yield row, mistake


def _unknown_in(row: Example | Row, tokenizer: FolderTokenizer, unknown: dict[int, str], folder: Path) -> str | None:
    texts = [row.completion, *(turn["content"] for turn in row.messages)]
    if isinstance(row, Row) and row.rejected is not None:
        texts.append(row.rejected)
    found = next(((id, text) for id, text in unknown.items() if any(text in one for one in texts)), None)
    return None if found is None else _too_large(tokenizer, *found, folder)


def parallel_sizes(config: Config) -> Iterator[str]:
    """Sizes of tensor and data parallelism that vLLM refuses when it loads the model."""
    for path, role in served_here(config):
        args = role.settings.get("args")
        if not isinstance(args, dict) or role.engine not in VLLM:
            continue
        if role.engine == "vllm_offline" and args.get("data_parallel_size", 1) not in (1, None):
            yield (
                f"'{path}.args.data_parallel_size' is {args['data_parallel_size']}, and one process with vLLM in it "
                f"has no replicas. Set {path}.engine=server {path}.serve=true, whose servers do."
            )
        size = args.get("tensor_parallel_size", 1)
        yield from _undivided(path, Path(role.settings["model"]), size) if isinstance(size, int) else ()


def _undivided(path: str, folder: Path, size: int) -> Iterator[str]:
    try:
        heads = text_config(folder).get("num_attention_heads")
    except UserError:
        return  # said by `model_files`
    if not isinstance(heads, int) or isinstance(size, bool):
        return
    if size < 1 or heads % size:
        sizes = ", ".join(str(one) for one in range(1, heads + 1) if heads % one == 0)
        yield (
            f"'{path}.args.tensor_parallel_size' is {size}, which does not divide the {heads} attention heads of "
            f"{folder}. Possible are {sizes}."
        )


def lora(config: Config) -> Iterator[str]:
    """LoRA that the engine would drop or not load, and modules that the model does not have."""
    settings, engine = config.train.lora, config.student.engine
    if upstream.mistakes("lora_config", settings):
        return  # said by the objective's own `Config`
    yield from mistakes(settings, engine, config.train.quantization)
    folder = Path(config.student.model)
    if engine in VLLM:
        args = config.student.settings.get("args")
        yield from _engine_limits(settings, args if isinstance(args, dict) else {}, folder)
    yield from _target_modules(settings.get("target_modules"), folder)
    yield from _layers(settings, folder)
    for name in ("rank_pattern", "alpha_pattern"):
        yield from _patterns(name, settings.get(name) or {}, folder)


def _engine_limits(settings: dict[str, Any], args: dict[str, Any], folder: Path) -> Iterator[str]:
    """What vLLM would say, or keep to itself, when it loads the adapter."""
    ranks, rank = upstream.lora_ranks(), saved_rank(settings)
    limit = args.get("max_lora_rank", max(ranks, default=None))
    if isinstance(limit, int) and rank > limit:
        plain = rank == settings.get("r", 8)
        name = "'train.lora.r' is" if plain else "The rank of the adapter, once it is rewritten as plain LoRA, is"
        yield (
            f"{name} {rank}, above the limit {limit} of the engine that evaluates the student. Lower "
            f"{'it' if plain else 'train.lora.r or rank_pattern'}, or raise student.args.max_lora_rank (vLLM allows up "
            f"to {max(ranks)})."
        )
    served, targets = args.get("lora_target_modules"), _targeted(settings, folder)
    if missing := sorted(targets - set(served or targets)):
        yield dropped_modules(missing)
    if takes_lora(folder, args) is False:
        yield (
            f"'student.model': vLLM puts no LoRA adapter on {', '.join(architectures(folder))}, the kind of {folder}. "
            f"Set {WITH_HF}, or take another student."
        )
    embeddings = embeddings_with_lora(folder, args)
    if "embed_tokens" in targets and embeddings is not None and "embed_tokens" not in embeddings:
        yield (
            f"'train.lora.target_modules' has 'embed_tokens', on which vLLM puts no adapter in "
            f"{', '.join(architectures(folder))}, the kind of {folder}. Take it out, or set {WITH_HF}."
        )


def _targeted(settings: dict[str, Any], folder: Path) -> set[str]:
    """The last parts of the names of the modules that get a LoRA, as far as they are known."""
    targets, excluded = settings.get("target_modules"), settings.get("exclude_modules") or []
    names: set[str] = set()  # what is not known here is said once the adapter is loaded
    with contextlib.suppress(re.error):
        if isinstance(targets, list):
            names = {str(one) for one in targets}
        elif isinstance(targets, str) and targets.lower() == "all-linear":
            names = set(linear_modules(folder))
        elif isinstance(targets, str):
            names = {name for name in module_names(folder) if re.fullmatch(targets, name)}
        if isinstance(excluded, str):
            return {name.rpartition(".")[2] for name in names if not re.fullmatch(excluded, name)}
    ends = tuple(f".{one}" for one in excluded)
    return {name.rpartition(".")[2] for name in names if not f".{name}".endswith(ends)}


def _layers(settings: dict[str, Any], folder: Path) -> Iterator[str]:
    """PEFT's rule: the first number behind a dotted name is the layer's, behind one of `layers_pattern` if that is set.
    A layer that is not there it would leave out silently."""
    chosen, patterns = settings.get("layers_to_transform"), settings.get("layers_pattern") or [r"[^.]*"]
    known: set[int] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        with contextlib.suppress(re.error):
            found = (re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", name) for name in module_names(folder))
            known |= {int(one[1]) for one in found if one}
    for layer in ([chosen] if isinstance(chosen, int) else chosen or []) if module_names(folder) else ():
        if layer not in known:
            there = f"has layers {min(known)} to {max(known)}" if known else "has no layers of that name"
            yield f"'train.lora.layers_to_transform' has {layer}, and {folder} {there}."


def _patterns(name: str, patterns: dict[str, Any], folder: Path) -> Iterator[str]:
    """PEFT's rule: a pattern is for the end of a name. One that matches nothing it would leave out silently."""
    known = module_names(folder)
    for pattern in patterns if known else ():
        with contextlib.suppress(re.error):
            if not any(re.match(rf"(.*\.)?({pattern})$", one) for one in known):
                yield f"'train.lora.{name}' has '{pattern}', which no module of {folder} matches."


def _target_modules(targets: Any, folder: Path) -> Iterator[str]:
    """PEFT's rule: a text is 'all-linear' or a pattern for whole names, a list has ends of names."""
    known = module_names(folder)
    last = {name.rpartition(".")[2] for name in known}
    if not known or "experts" in " ".join(known):  # weights of experts are loaded under other names
        return
    if isinstance(targets, str) and targets.lower() != "all-linear":
        try:
            matches = any(re.fullmatch(targets, name) for name in known)
        except re.error as error:
            yield f"'train.lora.target_modules' is {targets!r}, which is no regular expression: {error}."
            return
        if not matches:
            why = f"which no module of {folder} matches"
            yield f"'train.lora.target_modules' is {targets!r}, {why}. {_named(targets, last)}"
    for target in targets if isinstance(targets, list) else ():
        if isinstance(target, str) and not any(name == target or name.endswith(f".{target}") for name in known):
            yield f"'train.lora.target_modules' has '{target}', and {folder} has no such module. {_named(target, last)}"


def _named(target: str, names: set[str]) -> str:
    return did_you_mean(target, {name for name in names if not name.isdecimal() and "norm" not in name})
