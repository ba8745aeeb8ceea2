"""Plain transformers, where vLLM is not installed. Correct, and many times slower: not for volume.

Greedy requests with equal settings are generated in batches; a sampled one alone, under its own seed, because
transformers draws a whole batch from one generator.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from synthloop import chat, upstream
from synthloop.engines import EngineConfig, adapter_rank
from synthloop.engines._vllm import check_sampling
from synthloop.errors import UserError
from synthloop.records import Completion, Request

# `SamplingParams` names this engine knows, with vLLM's defaults; `logprobs` counts only as yes or no.
DEFAULTS: dict[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": None,
    "stop": None,
    "stop_token_ids": None,
    "ignore_eos": False,
    "max_tokens": None,
    "min_tokens": 0,
    "logprobs": None,
    "prompt_logprobs": None,
}


def _check_sampling(sampling: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(sampling) - {*DEFAULTS, "n"})
    if unknown:
        raise ValueError(
            f"The hf engine does not know sampling.{unknown[0]}. It knows {', '.join(DEFAULTS)}; "
            "for the rest use engine: vllm_offline."
        )
    return check_sampling(sampling)


SHARED_ARGS = {
    "code_revision",
    "dtype",
    "generation_config",
    "kernel_config",
    "quantization_config",
    "trust_remote_code",
}
"""Names of vLLM's `EngineArgs` that transformers' `from_pretrained` takes too."""


def _check_args(args: dict[str, Any]) -> dict[str, Any]:
    """A field of the model's own config may be given too, so only what is vLLM's alone is refused."""
    foreign = sorted(set(args) & ((upstream.accepted("engine_args") or frozenset()) - SHARED_ARGS))
    if foreign:
        raise ValueError(
            f"{', '.join(foreign)}: only vLLM takes {'it' if len(foreign) == 1 else 'them'}, and the hf engine gives "
            "args to transformers' from_pretrained (dtype, device_map, attn_implementation, ...). Leave "
            f"{'it' if len(foreign) == 1 else 'them'} out, for example args={{}}."
        )
    return args


class Config(EngineConfig):
    """`args` go verbatim to `AutoModelForCausalLM.from_pretrained` (`dtype`, `device_map`, ...)."""

    batch_size: int = Field(default=16, gt=0)

    _check_args = field_validator("args")(_check_args)
    _check_sampling = field_validator("sampling")(_check_sampling)


def open(cfg: Config, adapter: Path | None = None) -> HfEngine:
    """Load the model, and `adapter` on it, on the GPU where there is one.

    Raises:
        UserError: no tokenizer, no chat template, or a model or adapter that can't be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = chat.load_tokenizer(cfg.tokenizer or cfg.model, cfg.revision)
    try:
        model = AutoModelForCausalLM.from_pretrained(cfg.model, revision=cfg.revision, **cfg.args)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"transformers refuses the model '{cfg.model}' with args {cfg.args}: {error}") from error
    end_ids = _take_end_ids(model)  # before an adapter wraps it, with a generation config of its own
    if adapter is not None:
        from peft import PeftModel
        from safetensors import SafetensorError

        adapter_rank(adapter)  # a clear message where the folder is no adapter
        try:
            model = PeftModel.from_pretrained(model, str(adapter))
        except SafetensorError as error:
            raise UserError(f"{adapter}: its weights cannot be read ({error}). Train that adapter anew.") from error
    if "device_map" not in cfg.args:
        model.to("cuda" if torch.cuda.is_available() else "cpu")
    return HfEngine(cfg, model.eval(), tokenizer, end_ids)


class HfEngine:
    """Holds the model and the requests that wait."""

    def __init__(self, cfg: Config, model: Any, tokenizer: Any, end_ids: Sequence[int]) -> None:
        self._cfg = cfg
        self._model = model
        self._tokenizer = tokenizer
        self._own_end_ids = [*end_ids, *chat.end_ids(tokenizer, **cfg.chat_template_kwargs)]
        self.dtype = str(model.dtype).removeprefix("torch.")
        self._max_length = _context(model)
        self._pad_id = int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
        self._waiting: deque[tuple[Request, list[int], dict[str, Any]]] = deque()
        self._refused: list[Completion] = []

    def submit(self, request: Request) -> None:
        """Queue `request`; one whose prompt does not fit the context completes with `finish_reason` 'error'.

        Raises:
            UserError: `sampling` has a name that this engine does not know.
        """
        try:
            sampling = DEFAULTS | _check_sampling({**self._cfg.sampling, **request.sampling})
        except ValueError as error:
            raise UserError(str(error)) from error
        ids = (
            chat.prompt_ids(self._tokenizer, request.messages, **self._cfg.chat_template_kwargs)
            if request.prompt_token_ids is None
            else list(request.prompt_token_ids)
        )
        if 0 < len(ids) < self._max_length:
            room, asked = self._max_length - len(ids), sampling["max_tokens"]
            self._waiting.append((request, ids, {**sampling, "max_tokens": min(asked or room, room)}))
            return
        text = f"The prompt has {len(ids)} tokens; the context holds {self._max_length}, at least one for the reply."
        self._refused.append(
            Completion(
                request_id=request.id,
                text="",
                finish_reason="error",
                prompt_tokens=len(ids),
                completion_tokens=0,
                error=text,
            )
        )

    def poll(self) -> list[Completion]:
        """Generate the next batch; [] when nothing waits."""
        if self._refused:
            ready, self._refused = self._refused, []
            return ready
        if not self._waiting:
            return []
        batch = [self._waiting.popleft()]
        sampling = batch[0][2]
        while self._waiting and len(batch) < self._cfg.batch_size and _may_join(sampling, self._waiting[0][2]):
            batch.append(self._waiting.popleft())
        return self._generate([one[0] for one in batch], [one[1] for one in batch], sampling)

    def close(self) -> None:
        """Free the model."""
        self._model = None
        self._waiting.clear()

    def _generate(self, requests: Sequence[Request], prompts: Sequence[list[int]], sampling: Any) -> list[Completion]:
        """One `generate` call on left-padded prompts, all under `sampling`."""
        import torch

        from synthloop.engines import _transformers

        longest = max(map(len, prompts))
        device = self._model.device
        rows = [[self._pad_id] * (longest - len(ids)) + ids for ids in prompts]
        mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts]
        stopping = _transformers.StopStrings(
            self._tokenizer, prompts, longest, _stops(sampling), int(sampling["min_tokens"])
        )
        # vLLM keeps the model's own end tokens off a reply's first `min_tokens` even where `ignore_eos` is set.
        end_ids = self._end_ids({**sampling, "ignore_eos": False})
        seeded = sampling["seed"] not in (None, -1)
        with torch.random.fork_rng(enabled=seeded), torch.inference_mode():
            if seeded:
                torch.manual_seed(sampling["seed"])
            output = self._model.generate(
                input_ids=torch.tensor(rows, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=self._generation_config(sampling),
                logits_processor=_transformers.processors(sampling, prompts, longest, end_ids),
                stopping_criteria=[stopping] if _stops(sampling) else [],
            )
        replies = output.sequences[:, longest:]
        logprobs = _token_logprobs(output.logits, replies) if sampling["logprobs"] is not None else [None] * len(rows)
        return [
            self._completion(request, ids, reply.tolist(), logprob, sampling, stopping.found.get(row))
            for row, (request, ids, reply, logprob) in enumerate(zip(requests, prompts, replies, logprobs, strict=True))
        ]

    def _generation_config(self, sampling: dict[str, Any]) -> Any:
        """A whole config: a sampled one without `top_k` has transformers' own of 50."""
        from transformers import GenerationConfig

        draws = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}  # `_transformers.processors` has the request's
        greedy = sampling["temperature"] == 0
        return GenerationConfig(
            do_sample=not greedy,
            **({} if greedy else draws),
            max_new_tokens=sampling["max_tokens"],
            eos_token_id=self._end_ids(sampling) or None,
            pad_token_id=self._pad_id,
            return_dict_in_generate=True,
            output_logits=sampling["logprobs"] is not None,
        )

    def _end_ids(self, sampling: dict[str, Any]) -> list[int]:
        ends = set(sampling["stop_token_ids"] or ())
        if not sampling["ignore_eos"]:
            ends |= set(self._own_end_ids)
        return sorted(ends)

    def _completion(
        self,
        request: Request,
        prompt: list[int],
        reply: list[int],
        logprobs: Any,
        sampling: dict[str, Any],
        stopped: tuple[int, str] | None,
    ) -> Completion:
        """Cut `reply` after its first end token or stop string, whose tokens count and are no text, as in vLLM."""
        from synthloop.engines._transformers import reply_text

        ends = set(self._end_ids(sampling))
        length = next((i + 1 for i, token in enumerate(reply) if token in ends), None)
        if stopped is not None and (length is None or stopped[0] < length):
            num_tokens, text = stopped
        else:
            num_tokens = length or len(reply)
            text = reply_text(self._tokenizer, prompt, reply[: num_tokens - (length is not None)])
        return Completion(
            request_id=request.id,
            text=text,
            finish_reason="length" if length is None and stopped is None else "stop",
            prompt_tokens=len(prompt),
            completion_tokens=num_tokens,
            logprob=None if logprobs is None else float(logprobs[:num_tokens].sum()),
            prompt_logprobs=None if sampling["prompt_logprobs"] is None else self._prompt_logprobs(prompt),
        )

    def _prompt_logprobs(self, prompt: list[int]) -> tuple[float | None, ...]:
        import torch

        ids = torch.tensor([prompt], device=self._model.device)
        with torch.inference_mode():
            scores = self._model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)  # (seq - 1, vocab)
        return (None, *scores.gather(-1, ids[0, 1:, None])[:, 0].tolist())


def _context(model: Any) -> int:
    """Tokens of a prompt and its reply together. Raises `UserError` where the model's config does not say."""
    config = model.config.get_text_config()
    length = getattr(config, "max_position_embeddings", None)
    if length is None:
        raise UserError(
            f"The config.json of '{config.name_or_path}' has no max_position_embeddings, so the hf engine does not "
            "know how long a prompt may be. Use engine: vllm_offline."
        )
    return int(length)


def _take_end_ids(model: Any) -> list[int]:
    """The end tokens of the model's generation_config.json, all that vLLM takes from it too.

    The rest is taken off the model: transformers fills with it whatever `generate` is given as None.
    """
    from transformers import GenerationConfig

    own = model.generation_config.eos_token_id
    model.generation_config = GenerationConfig()
    return own if isinstance(own, list) else [] if own is None else [own]


def _may_join(first: dict[str, Any], other: dict[str, Any]) -> bool:
    """Greedy requests that differ at most in a seed that greedy decoding does not use. `max_tokens` is what the context
    has room for, so that no reply of a batch is shorter for another's prompt."""
    same = json.dumps(first | {"seed": None}, sort_keys=True) == json.dumps(other | {"seed": None}, sort_keys=True)
    return same and first["temperature"] == 0


def _stops(sampling: dict[str, Any]) -> list[str]:
    stop = sampling["stop"] or []
    return [stop] if isinstance(stop, str) else list(stop)


def _token_logprobs(logits: Sequence[Any], replies: Any) -> Any:
    """Log-probabilities (batch, seq) of the reply tokens, under the raw logits: one (batch, vocab) a step."""
    import torch

    scores = torch.stack(list(logits), dim=1).float().log_softmax(-1)  # (batch, seq, vocab)
    return scores.gather(-1, replies[..., None])[..., 0]
