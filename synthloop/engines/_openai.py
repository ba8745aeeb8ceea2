"""The OpenAI protocol as vLLM speaks it: requests to JSON bodies, JSON replies to completions. No network here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from synthloop.engines import EngineConfig
from synthloop.engines._vllm import check_sampling
from synthloop.errors import UserError
from synthloop.guided import for_grammar, read_json
from synthloop.records import Completion, Request

Dialect = Literal["vllm", "openai"]

_REASONS = {
    **{"stop": "stop", "length": "length", "repetition": "length"},
    # What servers let through that speak OpenAI's protocol over another's (TGI, Together; Anthropic).
    **{"eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "end_turn": "stop", "max_tokens": "length"},
}
_THOUGHTS = ("reasoning", "reasoning_content")
THOUGHTS_ALONE = (
    "The server takes the whole reply for the model's thoughts. Set chat_template_kwargs: {enable_thinking: false}, or "
    "start the server without a reasoning parser."
)
_PARTS = {"text": "text", "output_text": "text", "thinking": "thoughts", "reasoning": "thoughts", "refusal": "refusal"}
"""Kinds of the parts of a content -> what we take them for."""
# vLLM's `SamplingParams` by default. A server takes what a request leaves out from the model's generation_config.json,
# the in-process engines do not; so nothing of it is left out. SGLang takes -1, and not 0, for no top_k.
NEUTRAL: dict[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_tokens": 0,
}
# `SamplingParams` that vLLM's requests have no field for: its server ignores unknown fields, in silence.
NOT_SERVED = frozenset(
    {"detokenize", "extra_args", "flat_logprobs", "output_kind", "output_text_buffer_length", "prompt_logprob_start"}
    | {"prompt_logprob_token_ids", "skip_clone", "skip_reading_prefix_cache", "trace_decode_token_ids"}
)
# Fields of vLLM's chat requests that `SamplingParams` does not have and a user may want.
CHAT_FIELDS = frozenset(
    {"cache_salt", "documents", "include_reasoning", "priority", "reasoning_effort", "response_format"}
    | {"truncate_prompt_tokens", "truncation_side", "user", "vllm_xargs"}
)
MAX_STOPS = 4  # vLLM's VLLM_MAX_STOP_STRINGS, and OpenAI's
# Of https://platform.openai.com/docs/api-reference/chat/create, what `SamplingParams` has too.
OPENAI_SAMPLING = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "seed", "stop", "max_tokens", "n"}
    | {"logprobs", "structured_outputs"}
)
_SENT_TO_OPENAI = (OPENAI_SAMPLING - {"structured_outputs"}) | {
    *("model", "messages", "prompt", "response_format", "max_completion_tokens", "top_logprobs")
}
_UNKNOWN = re.compile(r"unknown|unrecogni[sz]ed|unexpected|unsupported|not (?:supported|permitted|allowed)|extra", re.I)
# vLLM, SGLang, OpenAI and DeepSeek ("maximum context length"), OpenAI ("max_tokens is too large"), TGI.
_OVER_CONTEXT = re.compile(
    r"context length|context_length|max_(?:completion_)?tokens is too large|max_new_tokens", re.I
)
# Chosen, not measured: a token's text, escaped, with its log-probability is seldom above 200 bytes.
BYTES_A_TOKEN = 1024
SPARE_BYTES = 2**20
LARGEST_REPLY = 64 * 2**20


def check_vllm(sampling: Mapping[str, Any]) -> None:
    """Raises `ValueError` naming what of `sampling` a vLLM server would ignore or refuse."""
    for name in sorted(NOT_SERVED & set(sampling)):
        raise ValueError(
            f"sampling.{name} is nothing a server is asked for. Leave it out, or use engine: vllm_offline."
        )
    check_sampling({name: value for name, value in sampling.items() if name not in CHAT_FIELDS})


def check_stops(sampling: Mapping[str, Any]) -> None:
    """Raises `ValueError` where `sampling` has more stop texts than a server that we did not start takes."""
    stops = sampling.get("stop")
    if isinstance(stops, list | tuple) and len(stops) > MAX_STOPS:
        raise ValueError(f"sampling.stop has {len(stops)} texts; a server takes {MAX_STOPS}.")


def check_openai(sampling: Mapping[str, Any]) -> None:
    """Raises `ValueError` naming the first of `sampling` that OpenAI's API has no field for."""
    for name in sorted(set(sampling) - OPENAI_SAMPLING):
        raise ValueError(f"sampling.{name} is not a field of OpenAI's API. Leave it out, or set dialect: vllm.")
    guide = sampling.get("structured_outputs")
    if guide is not None and set(guide) != {"json"}:
        raise ValueError(
            "sampling.structured_outputs: OpenAI's API guides by a JSON schema only, with the one key json."
        )
    check_sampling({name: value for name, value in sampling.items() if value is not None})


def body(cfg: EngineConfig, model: str, request: Request, dialect: Dialect = "vllm") -> tuple[str, dict[str, Any]]:
    """(path under the base URL, JSON body) of `request`. vLLM's extra parameters travel beside OpenAI's.

    Raises:
        UserError: a name or value that the other engines refuse too, token ids without `max_tokens`, or the dialect has
            no field for what is asked.
    """
    given = {**cfg.sampling, **request.sampling}
    sampling = {name: value for name, value in given.items() if value is not None}
    try:
        check_openai(sampling) if dialect == "openai" else check_vllm(given)
    except ValueError as error:
        raise UserError(str(error)) from error
    sampling = for_grammar(sampling)
    if request.prompt_token_ids is not None and "max_tokens" not in sampling:
        raise UserError("sampling.max_tokens is needed with token ids: /completions replies 16 tokens without it.")
    is_chat = request.prompt_token_ids is None
    if is_chat and (top := sampling.pop("logprobs", None)) is not None:
        sampling |= {"logprobs": True, "top_logprobs": int(top)}
    sampling = _in_openai_terms(sampling, is_chat) if dialect == "openai" else {**NEUTRAL, **sampling}
    if not is_chat:
        return "/completions", {"model": model, "prompt": list(request.prompt_token_ids or ()), **sampling}
    extra = {"chat_template_kwargs": cfg.chat_template_kwargs} if cfg.chat_template_kwargs else {}
    return "/chat/completions", {"model": model, "messages": list(request.messages), **sampling, **extra}


def _in_openai_terms(sampling: dict[str, Any], is_chat: bool) -> dict[str, Any]:
    """`sampling` by OpenAI's names; the newer models of its chat API refuse `max_tokens`."""
    renamed = {"max_tokens": "max_completion_tokens"} if is_chat else {}
    sent = {renamed.get(name, name): value for name, value in sampling.items()}
    if (guide := sent.pop("structured_outputs", None)) is not None:
        schema = {"name": "reply", "schema": guide["json"]}
        sent["response_format"] = {"type": "json_schema", "json_schema": schema}
    return sent


def is_unknown_field(body: Mapping[str, Any], message: str) -> bool:
    """Whether a server's `message` refuses one of the fields of `body` that are vLLM's and not OpenAI's."""
    ours = set(body) - _SENT_TO_OPENAI
    return _UNKNOWN.search(message) is not None and any(re.search(rf"\b{name}\b", message) for name in ours)


def within_context(path: str, body: Mapping[str, Any], message: str) -> dict[str, Any] | None:
    """`body` as it can be asked again where a server's `message` refuses the prompt with the tokens that may follow it.

    The other engines end such a reply where the context ends. So does a chat without a bound; for token ids the bound
    is what the context leaves. None where the message is another, or where the prompt alone is too long.
    """
    bound = next((name for name in ("max_completion_tokens", "max_tokens") if name in body), None)
    if bound is None or not _OVER_CONTEXT.search(message):
        return None
    if path == "/chat/completions":
        return {name: value for name, value in body.items() if name != bound}
    context = re.search(r"context length (?:is|of) (\d+)", message)
    room = 0 if context is None else int(context[1]) - len(body["prompt"])
    return {**body, bound: room} if 0 < room < body[bound] else None


def max_reply_bytes(body: Mapping[str, Any]) -> int:
    """How many bytes a reply to `body` may have, by the tokens and log-probabilities it asks for.

    `LARGEST_REPLY` where their number is not known: no `max_tokens`, or a chat prompt whose tokens are to be scored.
    """
    written = body.get("max_tokens", body.get("max_completion_tokens"))
    scored, prompt = body.get("prompt_logprobs"), body.get("prompt", ())
    beside = (body.get("top_logprobs", 0), 0 if scored is None else scored)
    if any(not isinstance(count, int) or count < 0 for count in (written, *beside)):
        return LARGEST_REPLY
    if scored is not None and not prompt:
        return LARGEST_REPLY
    num_scored = 0 if scored is None else len(prompt) * (1 + scored)
    num_written = int(written or 0) * (2 + int(beside[0]))
    return SPARE_BYTES + BYTES_A_TOKEN * (num_written + int(num_scored))


def parse(request: Request, reply: Any) -> Completion:
    """The completion in a reply of /chat/completions or /completions, decoded from JSON.

    Token counts that the server does not give are 0. Where there is no text but thoughts, as vLLM's reasoning parsers
    give a reply that ends no thinking, the JSON in them is the text if JSON was asked for; else nothing can be read.
    What a model says when it refuses stands in `error`.

    Raises:
        Exception: of any kind, where the reply is not of that form.
    """
    choice = reply["choices"][0]
    said = _said({"content": choice["text"]} if "text" in choice else choice["message"])
    text = said["text"] if said["text"].strip() else _guided_thoughts(request, said["thoughts"]) or said["text"]
    reason = _REASONS.get(str(choice["finish_reason"]).lower(), "error")
    error = f"The server ended the reply with '{choice['finish_reason']}'." if reason == "error" else None
    if reason != "error" and not text.strip() and said["refusal"]:
        error = f"The model refused: {said['refusal']}"
    elif reason == "stop" and not text.strip() and said["thoughts"]:
        reason, error = "error", THOUGHTS_ALONE
    return Completion(
        request_id=request.id,
        text=text,
        finish_reason=reason,
        prompt_tokens=_count(reply, "prompt_tokens"),
        completion_tokens=_count(reply, "completion_tokens"),
        logprob=_logprob(choice.get("logprobs")),
        prompt_logprobs=_prompt_logprobs(reply.get("prompt_logprobs") or choice.get("prompt_logprobs")),
        error=error,
    )


def _said(message: Mapping[str, Any]) -> dict[str, str]:
    """What a message says, as text, thoughts and refusal. Raises `ValueError` where it holds none of them."""
    if not {"content", "refusal", *_THOUGHTS} & set(message):
        raise ValueError("the message has no content")
    said = {"text": "", "thoughts": next((message[name] for name in _THOUGHTS if message.get(name)), "")}
    said["refusal"] = message.get("refusal") or ""
    for kind, words in _parts(message.get("content")):
        said[kind] += words  # raises where it is no text
    return said


def _parts(content: Any) -> list[tuple[str, Any]]:
    """(kind, words) of each part of a content that we know. Raises `ValueError` where we know none of them."""
    if content is None or isinstance(content, str):
        return [("text", content or "")]
    if not isinstance(content, list):
        raise ValueError("the content is neither text nor a list of parts")
    found = []
    for one in content:
        part = {"text": one} if isinstance(one, str) else one
        name = part.get("type", "text")
        if name in _PARTS:
            held_back = {"text": ""} if _PARTS[name] == "thoughts" else {}
            words = (held_back | part)[name if name in part else "text"]
            if isinstance(words, list):
                words = "".join(text for _, text in _parts(words))
            found.append((_PARTS[name], words))
    if content and not found:
        raise ValueError("no part of the content is text")
    return found


def _guided_thoughts(request: Request, thoughts: str) -> str:
    """The thoughts where they are the JSON that `request` asked for; "" where not."""
    if "json" not in (request.sampling.get("structured_outputs") or {}):
        return ""
    try:
        read_json(thoughts)
    except ValueError:
        return ""
    return thoughts


def _count(reply: Mapping[str, Any], name: str) -> int:
    """A token count of the reply's `usage`, which is bookkeeping: 0 where it is missing or none."""
    usage = reply.get("usage")
    count = usage.get(name) if isinstance(usage, Mapping) else None
    if isinstance(count, bool) or not isinstance(count, int | float) or not 0 <= count < 2**63 or count % 1:
        return 0
    return int(count)


def refusal(request: Request, text: str) -> Completion:
    """The completion of a request that was not answered."""
    return Completion(
        request_id=request.id, text="", finish_reason="error", prompt_tokens=0, completion_tokens=0, error=text
    )


def _logprob(logprobs: Mapping[str, Any] | None) -> float | None:
    if not logprobs:
        return None
    if "token_logprobs" in logprobs:
        return float(sum(logprobs["token_logprobs"]))
    return float(sum(token["logprob"] for token in logprobs["content"] or ()))


def _prompt_logprobs(entries: list[dict[str, Any] | None] | None) -> tuple[float | None, ...] | None:
    """One value a prompt token. vLLM puts the prompt's own token first in each entry, the likeliest others after it."""
    if entries is None:
        return None
    return tuple(next(iter(entry.values()))["logprob"] if entry else None for entry in entries)
