"""What well-known settings of upstream classes may be beyond their type: `check` refuses what cannot work."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Range(NamedTuple):
    """`admits` gets the value, of the right type and not null, and the settings it stands in."""

    admits: Callable[[Any, Mapping[str, Any]], bool]
    expected: str


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and value > 0


_COUNT = Range(lambda value, _: value >= 1, "1 or more")
_NOT_NEGATIVE = Range(lambda value, _: value >= 0, "0 or more")
_SHARE = Range(lambda value, _: 0 < value <= 1, "a number above 0 and up to 1")

_PENALTY = Range(lambda value, _: -2 <= value <= 2, "a number from -2 to 2")
_LOGPROBS = Range(lambda value, _: value >= -1, "0 or more, or -1 for all")


def _is_open(settings: Mapping[str, Any]) -> bool:
    return not isinstance(settings.get("max_tokens"), int)


def _listed(settings: Mapping[str, Any]) -> bool:
    return not isinstance(settings.get("target_modules"), str)


def _layers(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_TRAINING = {
    "learning_rate": _NOT_NEGATIVE,
    "num_train_epochs": Range(
        lambda value, settings: value > 0 or _is_positive(settings.get("max_steps")),
        "more than 0, or max_steps above 0",
    ),
    "per_device_train_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "max_length": _COUNT,
}
_DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")

RANGES: dict[str, dict[str, Range]] = {
    "sft_config": _TRAINING,
    "dpo_config": _TRAINING,
    "lora_config": {
        "r": _COUNT,
        "rank_pattern": Range(lambda value, _: all(map(_is_positive, value.values())), "a rank of 1 or more for each"),
        "alpha_pattern": Range(
            lambda value, _: all(isinstance(one, int | float) for one in value.values()), "a number for each"
        ),
        "layers_to_transform": Range(
            lambda value, settings: _listed(settings) and all(one >= 0 for one in _layers(value)),
            "numbers of layers from 0, with a list of names as target_modules: PEFT takes none beside a text",
        ),
        "layers_pattern": Range(
            lambda _, settings: _listed(settings) and settings.get("layers_to_transform") is not None,
            "null, or layers_to_transform beside it and a list of names as target_modules",
        ),
        "lora_dropout": Range(lambda value, _: 0 <= value < 1, "a number from 0 to below 1"),
    },
    "sampling_params": {
        "temperature": Range(lambda value, _: 0 <= value <= 2, "a number from 0 to 2"),
        "top_p": _SHARE,
        "top_k": Range(lambda value, _: value >= -1, "1 or more, or 0 for all tokens"),
        "min_p": Range(lambda value, _: 0 <= value <= 1, "a number from 0 to 1"),
        "presence_penalty": _PENALTY,
        "frequency_penalty": _PENALTY,
        "repetition_penalty": Range(lambda value, _: 0 < value < math.inf, "a number above 0"),
        "n": Range(lambda value, _: value == 1, "1: every reply is a request of its own, with its own seed"),
        "max_tokens": _COUNT,
        "min_tokens": Range(
            lambda value, settings: value >= 0 and (_is_open(settings) or value <= settings["max_tokens"]),
            "0 or more, and no more than max_tokens",
        ),
        "logprobs": _LOGPROBS,
        "prompt_logprobs": _LOGPROBS,
        "stop": Range(lambda value, _: "" not in ([value] if isinstance(value, str) else value), "no empty text"),
    },
    "engine_args": {
        "gpu_memory_utilization": _SHARE,
        "max_model_len": Range(lambda value, _: value >= 1 or value == -1, "1 or more, or -1 for what fits"),
        "dtype": Range(lambda value, _: value in _DTYPES, f"one of {', '.join(_DTYPES)}"),
    },
}
"""Kind of `upstream` -> key -> range."""


def out_of_range(kind: str, key: str, settings: Mapping[str, Any]) -> str | None:
    """What is expected of `settings[key]`, whose type is right, where its value is outside; None where it is not."""
    found, value = RANGES.get(kind, {}).get(key), settings[key]
    return None if found is None or value is None or found.admits(value, settings) else found.expected
