"""Engines: requests in, completions out. One file each; two verbs.

    engine.submit(request)      queue one request; returns at once
    engine.poll()               block until at least one completion is ready, return all that are; [] when idle

Completions come back in the order they finish. An engine module provides

    class Config(EngineConfig)                       its settings
    open(cfg, adapter=None) -> Engine                `adapter` is a PEFT LoRA folder to put on the model

What an engine is asked is `{**cfg.sampling, **request.sampling}`. The caller puts everything that matters into
`request.sampling`, because the journal keys on it; the engine's merge only fills what the caller left to the role.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, field_validator

from synthloop import guided, plugins, upstream
from synthloop.engines._fingerprint import folder_fingerprint
from synthloop.errors import UserError
from synthloop.files import parse_json
from synthloop.journal import Journal, request_key
from synthloop.records import Completion, Request
from synthloop.refusals import Refusals

# Engine arguments that change what is answered, and not only how fast or where.
ANSWER_ARGS = ("dtype", "quantization", "max_model_len", "hf_overrides", "load_format", "seed", "logits_processors")


PARALLEL_ARGS = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


class EngineConfig(BaseModel):
    """Settings every engine has.

    `model` is a hub id or a local folder; the word 'student' (in `roles`) means the accepted student.
    `args` are the engine's own arguments verbatim (vLLM `EngineArgs`), `sampling` the default `SamplingParams`.
    """

    # Settings may hold a secret by mistake; pydantic's own messages would show them.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    model: str
    revision: str | None = None
    tokenizer: str | None = None
    args: plugins.Arguments = {}
    sampling: dict[str, Any] = {}
    chat_template_kwargs: dict[str, Any] = {}

    @field_validator("sampling")
    @classmethod
    def _can_guide(cls, sampling: dict[str, Any]) -> dict[str, Any]:
        try:
            guided.for_grammar(sampling)
        except UserError as error:
            raise ValueError(str(error)) from error
        return sampling


class Engine(Protocol):
    """What the driver and the evaluation talk to."""

    def submit(self, request: Request) -> None:
        """Queue `request`. One that can never be served (prompt longer than the context) completes with
        `finish_reason` 'error'. Raises `UserError` on sampling the engine does not know."""

    def poll(self) -> list[Completion]:
        """Block until something finished and return it; an empty list means that nothing is in flight.

        Raises `StageFailed` when the engine died for good; what came before is in the caller's journal.
        """

    def close(self) -> None:
        """Free the device and stop any child process. Closing twice is allowed."""


def num_devices(cfg: EngineConfig) -> int:
    """Devices of this machine (GPUs, or its CPU as one) that an engine holds while it is open; 0 for servers that run
    elsewhere already."""
    if getattr(cfg, "base_urls", ()):
        return 0
    return math.prod(int(cfg.args.get(name) or 1) for name in PARALLEL_ARGS)


def identity(cfg: EngineConfig, adapter: Path | None = None) -> dict[str, Any]:
    """What the journal keys on beside the request: engine, model, revision, adapter, and settings that change answers.

    A local model counts by its content, so a run directory can move; a hub id by its name and revision.
    """
    answer_args = {name: value for name, value in cfg.args.items() if name in ANSWER_ARGS}
    settings = {
        "tokenizer": cfg.tokenizer and _content_name(cfg.tokenizer),
        "sampling": cfg.sampling,
        "chat_template_kwargs": cfg.chat_template_kwargs,
        "args": answer_args,
    }
    return {
        "engine": type(cfg).__module__.rpartition(".")[2],
        "model": _content_name(cfg.model),
        "revision": cfg.revision,
        "adapter": None if adapter is None else adapter_fingerprint(adapter),
        **{name: value for name, value in settings.items() if value},
    }


def _content_name(model: str) -> str:
    folder = Path(model)
    return f"local:{folder_fingerprint(folder)}" if folder.is_dir() else model


def adapter_fingerprint(adapter: Path) -> str:
    """Hash of a PEFT adapter's weights and settings, the path of its base model left out."""
    config = _adapter_config(adapter)
    config.pop("base_model_name_or_path", None)
    weights = folder_fingerprint(adapter, patterns=("adapter_model.*",), whole=True)
    return hashlib.sha256(json.dumps([config, weights], sort_keys=True).encode()).hexdigest()[:16]


def adapter_rank(adapter: Path) -> int:
    """The LoRA rank of a PEFT adapter folder: the largest one of `r` and `rank_pattern`.

    Raises:
        UserError: the folder is not a PEFT adapter.
    """
    config = _adapter_config(adapter)
    return max(int(config["r"]), *(int(rank) for rank in (config.get("rank_pattern") or {}).values()), 0)


def _adapter_config(adapter: Path) -> dict[str, Any]:
    path = adapter / "adapter_config.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file. Expected a PEFT adapter folder, as `train` writes it.")
    config: dict[str, Any] = parse_json(path)
    return config


def max_lora_rank(rank: int, limit: int | None = None) -> int:
    """The smallest `max_lora_rank` of vLLM that holds `rank`, or the user's own `limit` where that is enough.

    Raises:
        UserError: the rank is above the user's limit or above vLLM's.
    """
    ranks = upstream.lora_ranks()
    largest = limit if limit is not None else ranks[-1]
    if rank > largest:
        named = "args.max_lora_rank" if limit is not None else "vLLM's largest max_lora_rank"
        raise UserError(
            f"The adapter's LoRA rank is {rank}, above {named} of {largest}. "
            f"Raise args.max_lora_rank (one of {', '.join(map(str, ranks))}) or lower train.lora.r."
        )
    return limit if limit is not None else next(size for size in ranks if size >= rank)


def complete_all(
    engine: Engine,
    requests: Sequence[Request],
    journal: Journal | None = None,
    identity: dict[str, Any] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    refusals: Refusals | None = None,
    max_in_flight: int = 1024,
) -> list[Completion]:
    """The reply to each request, in their order; what the journal holds is not asked again.

    Equal requests (same content, any id) are asked once. Replies are journaled as they come, failed ones
    (`finish_reason` 'error') never. At most `max_in_flight` requests wait in the engine.

    Args:
        identity: what `identity()` says of the engine; required with a journal.
        on_progress: called with (number done, number of requests) whenever replies came.
        refusals: what counts the requests that were not served; none makes the call fail by default.

    Raises:
        StageFailed: more requests were not served than `refusals` allows.
    """
    refusals = refusals or Refusals()
    assert journal is None or identity is not None, "a journal needs the engine's identity"
    keys = [request_key(identity or {}, request) for request in requests]
    known = {} if journal is None else {key: reply for key in keys if (reply := journal.get(key)) is not None}
    asked = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
    repeats = Counter(keys)
    num_done = sum(repeats[key] for key in known)
    if on_progress:
        on_progress(num_done, len(keys))
    for key, reply in known.items():
        refusals.add(key, "", reply)
    for replies in _stream(engine, asked, max_in_flight, refusals):
        if journal is not None:
            model = str((identity or {})["model"])
            journal.put((key, model, asked[key], reply) for key, reply in replies if reply.finish_reason != "error")
        known.update(replies)
        for key, reply in replies:
            refusals.add(key, asked[key].role, reply)
        num_done += sum(repeats[key] for key, _ in replies)
        if on_progress:
            on_progress(num_done, len(keys))
    refusals.check()
    return [known[key].model_copy(update={"request_id": one.id}) for key, one in zip(keys, requests, strict=True)]


def _stream(
    engine: Engine, asked: dict[str, Request], max_in_flight: int, refusals: Refusals
) -> Iterator[list[tuple[str, Completion]]]:
    """(key, reply) pairs as they finish. Requests go to the engine under their key, so that ids need not be unique."""
    waiting = iter(asked.items())
    num_in_flight = 0
    while True:
        for key, request in itertools.islice(waiting, max_in_flight - num_in_flight):
            engine.submit(request.model_copy(update={"id": key}))
            refusals.submitted(key)
            num_in_flight += 1
        replies = engine.poll()
        if not replies:
            assert num_in_flight == 0, f"the engine lost {num_in_flight} requests"
            return
        num_in_flight -= len(replies)
        yield [(one.request_id, one.model_copy(update={"request_id": asked[one.request_id].id})) for one in replies]
