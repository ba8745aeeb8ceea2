"""vLLM in this process: requests go straight into the running batch, completions come out as they finish.

    engine = open(Config(model="quickstart/teacher", sampling={"temperature": 0.8}))
    engine.submit(Request(id="1", role="teacher", messages=(Message(role="user", content="2 + 2?"),)))
    engine.poll()    # [Completion(request_id="1", text="4", finish_reason="stop", ...)]

The engine core runs in this process (`VLLM_ENABLE_V1_MULTIPROCESSING=0`): it is ready seconds sooner and schedules
deterministically. Set the variable to 1 to give the core a process of its own.
"""

from __future__ import annotations

import gc
import itertools
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import field_validator

from synthloop import chat
from synthloop.engines import EngineConfig, _cpu_lora
from synthloop.engines._vllm import check_args, check_sampling, engine_args, environment, is_cpu_build, stopping_at
from synthloop.errors import UserError
from synthloop.guided import for_grammar
from synthloop.records import Completion, Request

# Ending one vLLM engine ends the process groups that all engines of this process share, even when it is only garbage
# collected. So a closed one is kept until no other is open (vllm/v1/engine/core.py of 0.31, `EngineCore.shutdown`).
_open_engines: list[Any] = []
_closed_engines: list[Any] = []


class Config(EngineConfig):
    """`args` are vLLM's `EngineArgs` and `sampling` its `SamplingParams`, checked by name without importing vLLM."""

    _check_args = field_validator("args")(check_args)
    _check_sampling = field_validator("sampling")(check_sampling)


def open(cfg: Config, adapter: Path | None = None) -> VllmEngine:
    """Load the model, and `adapter` on it.

    Raises:
        UserError: no tokenizer or chat template, an adapter rank above the limit, or arguments vLLM refuses.
    """
    tokenizer = chat.load_tokenizer(cfg.tokenizer or cfg.model, cfg.revision)
    args = engine_args(cfg, adapter)
    _set_environment()
    if adapter is not None and is_cpu_build():
        _cpu_lora.install()
    return VllmEngine(cfg, _load({"use_tqdm_on_load": False, **args}), tokenizer, adapter)


def _load(args: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        # Loading vLLM 0.31 on CPU touches a deprecated name of torch; its users can do nothing about it.
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*reduce_op")
        from vllm import LLM
        from vllm.exceptions import VLLMClientError

        try:
            return LLM(**args)
        except (TypeError, ValueError, VLLMClientError) as error:
            raise UserError(f"vLLM refuses the model '{args['model']}' with these args: {error}") from error


def _set_environment() -> None:
    """Our defaults for vLLM's variables; must come before it is imported, and never override the user's."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    # The CPU build warns of every kernel it registers and every library it would preload.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR" if is_cpu_build() else "WARNING")
    for name, value in environment().items():
        os.environ.setdefault(name, value)


class VllmEngine:
    """Holds the loaded model and the requests in its batch."""

    def __init__(self, cfg: Config, llm: Any, tokenizer: Any, adapter: Path | None) -> None:
        from vllm.lora.request import LoRARequest

        self.llm: Any = llm  # for benchmarks; None once closed
        self._cfg = cfg
        self._engine: Any = llm.llm_engine
        self._tokenizer = tokenizer
        self._turn_end = chat.turn_end(tokenizer, **cfg.chat_template_kwargs)
        self._max_length = int(llm.model_config.max_model_len)
        self.dtype = str(llm.model_config.dtype).removeprefix("torch.")
        self._lora_request = LoRARequest
        self._lora_numbers = itertools.count(1)
        self._lora: Any = None
        if adapter is not None:
            self.use(adapter)
        self._numbers = itertools.count()
        self._in_flight: dict[str, Request] = {}
        self._submitted: list[tuple[Request, Any]] = []
        _open_engines.append(self._engine)

    def use(self, adapter: Path) -> None:
        """Answer what is submitted from now on with `adapter`, of no higher rank than the one it was opened with.

        Raises:
            UserError: vLLM does not load it.
        """
        number = next(self._lora_numbers)
        self._lora = self._lora_request(f"adapter-{number}", number, str(adapter))  # vLLM caches prefixes by name
        try:
            self._engine.add_lora(self._lora)
        except ValueError as error:
            raise UserError(f"vLLM refuses the adapter {adapter}: {error}") from error

    def submit(self, request: Request) -> None:
        """Queue `request`; one whose prompt does not fit the context completes with `finish_reason` 'error'.

        Raises:
            UserError: `sampling` has a name or value that vLLM refuses.
        """
        sampling = stopping_at(self._turn_end, {**self._cfg.sampling, **request.sampling})
        self._submitted.append((request, sampling_params(sampling)))

    def poll(self) -> list[Completion]:
        """Step the batch until something finished; [] when nothing is in flight.

        Raises:
            UserError: vLLM refuses a setting that only the loaded model can judge (a schema, a token id).
        """
        ready = self._admit()
        while self._in_flight and not ready:
            outputs = (output for output in self._engine.step() if output.finished)
            ready = [_completion(self._in_flight.pop(output.request_id), output) for output in outputs]
        return ready

    def _admit(self) -> list[Completion]:
        """Put what was submitted into the batch; the completions of those whose prompt does not fit."""
        from vllm.exceptions import VLLMClientError
        from vllm.inputs import tokens_input

        submitted, self._submitted = self._submitted, []
        refused = []
        for (request, params), ids in zip(submitted, self._prompts([one for one, _ in submitted]), strict=True):
            if not 0 < len(ids) < self._max_length:
                refused.append(_refusal(request, len(ids), self._max_length))
                continue
            number = str(next(self._numbers))
            try:
                self._engine.add_request(number, tokens_input(ids), params, lora_request=self._lora)
            except (ValueError, VLLMClientError) as error:
                raise UserError(f"vLLM refuses the sampling {request.sampling}: {error}") from error
            self._in_flight[number] = request
        return refused

    def _prompts(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        """Token ids of each prompt, as `chat.prompt_ids` gives them; each distinct prompt (k votes) is rendered once,
        and all are tokenised together."""
        kwargs = self._cfg.chat_template_kwargs
        conversations = {_turns(one): one.messages for one in requests if one.prompt_token_ids is None}
        texts = [chat.prompt_text(self._tokenizer, messages, **kwargs) for messages in conversations.values()]
        tokenised = self._tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        ids = dict(zip(conversations, tokenised, strict=True))
        return (ids[_turns(one)] if one.prompt_token_ids is None else list(one.prompt_token_ids) for one in requests)

    def close(self) -> None:
        """Free the model, once no other engine of this process is open. What was in flight is dropped."""
        if self._engine is None:
            return
        if self._in_flight:
            self._engine.abort_request(list(self._in_flight))
        self._in_flight.clear()
        self._submitted.clear()
        _open_engines.remove(self._engine)
        _closed_engines.append(self._engine)
        self._engine = self.llm = None
        if not _open_engines:
            for engine in _closed_engines:
                engine.engine_core.shutdown()
            _closed_engines.clear()
            gc.collect()


def sampling_params(sampling: Mapping[str, Any]) -> Any:
    """vLLM's `SamplingParams`; `max_tokens` fills the context unless given, and only final outputs are built.

    Raises:
        UserError: a name or a value that `SamplingParams` does not take.
    """
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    settings: dict[str, Any] = {"max_tokens": None, **for_grammar(sampling)}
    guide = settings.get("structured_outputs")
    try:
        check_sampling(settings)
        if isinstance(guide, Mapping):
            settings["structured_outputs"] = StructuredOutputsParams(**guide)
        if isinstance(bias := settings.get("logit_bias"), Mapping):
            settings["logit_bias"] = {int(token): value for token, value in bias.items()}  # JSON's keys are text
        return SamplingParams(**settings, output_kind=RequestOutputKind.FINAL_ONLY, skip_clone=True)
    except (TypeError, ValueError, VLLMClientError) as error:
        raise UserError(f"vLLM refuses the sampling {dict(sampling)}: {error}") from error


def _turns(request: Request) -> tuple[tuple[str, str], ...]:
    return tuple((turn["role"], turn["content"]) for turn in request.messages)


def _refusal(request: Request, num_tokens: int, limit: int) -> Completion:
    text = f"The prompt has {num_tokens} tokens; the context holds {limit}, at least one of them for the reply."
    return Completion(
        request_id=request.id, text="", finish_reason="error", prompt_tokens=num_tokens, completion_tokens=0, error=text
    )


def _completion(request: Request, output: Any) -> Completion:
    """The record of a finished vLLM `RequestOutput`.

    A reply that vLLM cut for repeating itself ended before its own end: 'length', like any truncated one.
    """
    reply = output.outputs[0]
    reason = {"stop": "stop", "length": "length", "repetition": "length"}.get(reply.finish_reason, "error")
    return Completion(
        request_id=request.id,
        text=reply.text,
        finish_reason=reason,
        prompt_tokens=len(output.prompt_token_ids),
        completion_tokens=len(reply.token_ids),
        logprob=reply.cumulative_logprob,
        prompt_logprobs=_prompt_logprobs(output),
        error=f"vLLM ended the request with '{reply.finish_reason}'." if reason == "error" else None,
    )


def _prompt_logprobs(output: Any) -> tuple[float | None, ...] | None:
    """One log-probability (nats) a prompt token, the first None; None where none were asked for."""
    if output.prompt_logprobs is None:
        return None
    ids = output.prompt_token_ids
    return tuple(one[token].logprob if one else None for token, one in zip(ids, output.prompt_logprobs, strict=True))
