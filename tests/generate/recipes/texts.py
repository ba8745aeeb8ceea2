"""Documents to draw from, replies of a critic, and what a request shows, for the tests of recipes over texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from generate.context import Context
from synthloop import plugins
from synthloop.records import Request
from tests.generate import rows
from tests.generate.play import answer, desk

DOCUMENTS = {
    "bees.md": "Bees dance to tell where flowers are. The dance shows direction and distance. A hive holds 50000 bees.",
    "wasps.md": "Wasps hunt insects for their young. A nest of wasps holds 5000 wasps. Wasps do not dance.",
    "steel.md": "Steel is iron with up to two percent carbon. Quenching makes it hard and brittle.",
}


def documents(folder: Path) -> Path:
    """A folder with three short documents, one passage each."""
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text)
    return folder


def play_many(name: str, number: int, reply: Callable[[Request], str], **settings: Any) -> list[Any]:
    """(outcome, all it asked) of `number` conversations; as `play`, over one desk."""
    cfg, shared = plugins.configure("recipe", name, settings), desk()
    seeds = [rows.seed(n, recipe=name) for n in range(number)]
    return [answer(plugins.load("recipe", name).run(seed, Context(shared, seed, cfg)), reply) for seed in seeds]


def shown(request: Request) -> str:
    """All the text of a request."""
    return "\n".join(turn["content"] for turn in request.messages)


def last(request: Request) -> str:
    return request.messages[-1]["content"]


def is_guided(request: Request) -> bool:
    """Whether JSON of a schema was asked for."""
    return "structured_outputs" in request.sampling


def rated(score: int) -> str:
    return json.dumps({"reason": "because", "score": score})


def claims(*supported: bool) -> str:
    return json.dumps({"claims": [{"claim": f"claim {n}", "supported": one} for n, one in enumerate(supported)]})


def reading(answer: str | None) -> str:
    """A reader's reply; None where it finds no answer."""
    return json.dumps({"reason": "because", "answerable": answer is not None, "answer": answer or ""})
