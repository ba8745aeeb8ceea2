"""The OpenAI protocol as vLLM speaks it: requests to JSON bodies, JSON replies to completions. No network here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthloop.engines import EngineConfig
from synthloop.errors import UserError
from synthloop.records import Completion, Request

_REASONS = {"stop": "stop", "length": "length", "repetition": "length"}


def body(cfg: EngineConfig, model: str, request: Request) -> tuple[str, dict[str, Any]]:
    """(path under the base URL, JSON body) of `request`. vLLM's extra parameters travel beside OpenAI's.

    Raises:
        UserError: several replies are asked of one request, or token ids come without `max_tokens`.
    """
    sampling = {**cfg.sampling, **request.sampling}
    if sampling.get("n", 1) != 1:
        raise UserError("sampling.n must be 1: every reply is a request of its own, with its own seed.")
    if request.prompt_token_ids is not None:
        if "max_tokens" not in sampling:
            raise UserError("sampling.max_tokens is needed with token ids: /completions replies 16 tokens without it.")
        return "/completions", {"model": model, "prompt": list(request.prompt_token_ids), **sampling}
    if (top := sampling.pop("logprobs", None)) is not None:
        sampling |= {"logprobs": True, "top_logprobs": int(top)}
    extra = {"chat_template_kwargs": cfg.chat_template_kwargs} if cfg.chat_template_kwargs else {}
    return "/chat/completions", {"model": model, "messages": list(request.messages), **sampling, **extra}


def parse(request: Request, reply: Mapping[str, Any]) -> Completion:
    """The completion in a reply of /chat/completions or /completions.

    Raises:
        KeyError, IndexError, TypeError: the reply is not of that form.
    """
    choice, usage = reply["choices"][0], reply["usage"]
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    reason = _REASONS.get(choice["finish_reason"], "error")
    return Completion(
        request_id=request.id,
        text=text or "",
        finish_reason=reason,
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage.get("completion_tokens") or 0,
        logprob=_logprob(choice.get("logprobs")),
        prompt_logprobs=_prompt_logprobs(reply.get("prompt_logprobs") or choice.get("prompt_logprobs")),
        error=f"The server ended the reply with '{choice['finish_reason']}'." if reason == "error" else None,
    )


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
