"""Play one conversation of a recipe, or of a filter, by hand: no engine, no journal.

    outcome, asked = play("repair", rows.seed(), ["A new problem?", "#### 4", "#### 4"], num_solutions=2)

Replies are given in the order of the requests: texts, or a function from the request to a text.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from generate.context import Ask, Context, Desk, Reply
from generate.prompts import Prompts
from generate.roles import Roles
from synthloop import plugins
from synthloop.records import Candidate, Completion, Request, Seed
from synthloop.task import open_task
from tests.generate import scripted
from tests.generate.runs import build_run


def desk(roles: Iterable[str] = (), **config: Any) -> Desk:
    """A desk whose `roles`, beside teacher and student, are scripted; `config` changes the run's."""
    others = dict.fromkeys(set(roles) - {"student"}, scripted.ROLE)
    with tempfile.TemporaryDirectory() as folder:
        run = build_run(Path(folder), model="quickstart/student", roles=others, **config)
        task = open_task(run.config.task.name, run.config.task.settings)
        return Desk(run.config.seed, 1, task, Roles(run, 1), Prompts(), run.config.generate.max_depth)


def play(
    name: str, seed: Seed, replies: Sequence[str] | Callable[[Request], str], **settings: Any
) -> tuple[Any, list[Request]]:
    """(outcome of the recipe, all it asked)."""
    cfg = plugins.configure("recipe", name, settings)
    context = Context(desk(plugins.roles_of(cfg).values()), seed.model_copy(update={"recipe": name}), cfg)
    return answer(plugins.load("recipe", name).run(seed, context), replies)


def answer(conversation: Any, replies: Sequence[str] | Callable[[Request], str]) -> tuple[Any, list[Request]]:
    """Answer `conversation` to its end. A reply that ends in '…' counts as truncated."""
    asked: list[Request] = []
    texts = iter(()) if callable(replies) else iter(replies)

    def reply(ask: Ask) -> Reply:
        asked.append(ask.request)
        text = replies(ask.request) if callable(replies) else next(texts)
        scored = ask.request.prompt_token_ids
        completion = Completion(
            request_id=ask.request.id,
            text=text,
            finish_reason="length" if text.endswith("…") else "stop",
            prompt_tokens=len(scored or ()),
            completion_tokens=1,
            prompt_logprobs=(None, *[-0.5] * (len(scored) - 1)) if scored else None,
        )
        return Reply(completion, ask.num_given)

    try:
        wanted = next(conversation)
        while True:
            many = [wanted] if isinstance(wanted, Ask) else wanted
            given = [reply(ask) for ask in many]
            wanted = conversation.send(given[0] if isinstance(wanted, Ask) else given)
    except StopIteration as end:
        return end.value, asked


def kept(outcome: Any) -> list[Candidate]:
    """The candidates of an outcome."""
    many = outcome if isinstance(outcome, list | tuple) and not hasattr(outcome, "_fields") else [outcome]
    return [one for one in many if isinstance(one, Candidate)]
