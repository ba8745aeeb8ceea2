"""A dress rehearsal of the recipes, with made-up replies and no model: what is missing is found before it costs.

A prompt file or a variable that is not there, a role that is not in the config, votes of a greedy role: each is a
`UserError` here instead of after an hour of generation. Where JSON is asked for the made-up reply is an instance of its
schema, elsewhere it is the seed's own completion. A way that only other replies would open is not rehearsed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from generate.context import Ask, Conversation, Reply
from synthloop.records import Completion, Seed

MAX_TURNS = 40
"""Longer than any recipe's way to its last prompt; chosen, not measured."""


def rehearse(seeds: Sequence[Seed], converse: Callable[[Sequence[Seed]], Iterable[Conversation]]) -> list[list[Ask]]:
    """Play the first and the last conversation of each recipe; what each asked. Raises `UserError`."""
    ends = {seed.recipe: seed for seed in reversed(seeds)} | {f"{seed.recipe}, last": seed for seed in seeds}
    chosen = list(ends.values())
    asked_by: list[list[Ask]] = []
    for seed, conversation in zip(chosen, converse(chosen), strict=True):
        asked_by.append([])
        with contextlib.suppress(StopIteration), contextlib.closing(conversation):
            asked = next(conversation)
            for turn in range(MAX_TURNS):
                asks = [asked] if isinstance(asked, Ask) else asked
                asked_by[-1] += asks
                replies = [_reply(ask, seed, turn) for ask in asks]
                asked = conversation.send(replies[0] if isinstance(asked, Ask) else replies)
    return asked_by


def _reply(ask: Ask, seed: Seed, turn: int) -> Reply:
    schema = ask.request.sampling.get("structured_outputs", {}).get("json")
    text = json.dumps(instance(schema, turn)) if schema else seed.example.completion
    given = ask.request.prompt_token_ids
    completion = Completion(
        request_id="rehearsal",
        text=text,
        finish_reason="stop",
        prompt_tokens=0,
        completion_tokens=0,
        prompt_logprobs=(None, *[-1.0] * (len(given) - 1)) if given else None,
    )
    return Reply(completion, ask.num_given)


def instance(schema: dict[str, Any], value: int, whole: dict[str, Any] | None = None) -> Any:
    """A value that `schema` (JSON schema as pydantic writes it) allows, chosen by `value`."""
    whole = whole or schema
    if "$ref" in schema:
        return instance(whole["$defs"][schema["$ref"].rpartition("/")[2]], value, whole)
    if "anyOf" in schema:
        return instance(schema["anyOf"][value % len(schema["anyOf"])], value, whole)
    if "enum" in schema or "const" in schema:
        options = schema.get("enum", [schema.get("const")])
        return options[value % len(options)]
    if schema.get("type") == "object":
        return {name: instance(one, value + n, whole) for n, (name, one) in enumerate(schema["properties"].items())}
    if schema.get("type") == "array":
        count = schema.get("minItems", 1 if schema.get("maxItems", 1) else 0)
        return [instance(schema["items"], value + n, whole) for n in range(count)]
    if schema.get("type") in ("integer", "number"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 10)
        return low + value % (high - low + 1)
    return {"boolean": value % 2 == 0, "null": None, "string": f"text {value}"}[schema["type"]]
