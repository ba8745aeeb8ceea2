"""A reply ends where the template ends a turn, whatever the tokenizer's own end token is: every engine is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synthloop import chat
from synthloop.chat_template import ChatTemplate
from synthloop.engines import Engine, complete_all, hf, server, vllm_offline
from synthloop.engines._managed_server import ManagedServer
from tests.engines.conftest import VLLM_ARGS, ask
from tests.engines.test_server import FakeEndpoint
from tests.shapes import SHAPES, put_on

LONGEST = 24


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose template ends a turn with a token that is neither its eos nor special."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("models") / "chatml")
    return put_on(Path(folder), SHAPES["end that is not special"])


@pytest.fixture(scope="module")
def end(model: Path) -> int:
    tokenizer = chat.load_tokenizer(str(model))
    token: int = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert token != tokenizer.eos_token_id
    return token


@pytest.fixture(scope="module")
def vllm(model: Path) -> Iterator[Engine]:
    engine = vllm_offline.open(vllm_offline.Config(model=str(model), args=VLLM_ARGS))
    yield engine
    engine.close()


def wants(end: int, **more: Any) -> dict[str, Any]:
    """Sampling with which a model writes `end` as soon as it may."""
    return {"temperature": 0, "max_tokens": LONGEST, "logit_bias": {end: 100.0}, "min_tokens": 5, **more}


def test_vllm_stops_where_the_template_ends_a_turn(vllm: Engine, end: int) -> None:
    (reply,) = complete_all(vllm, [ask("Tom has 3 apples.", **wants(end))])
    assert (reply.finish_reason, reply.completion_tokens) == ("stop", 6)
    assert "im_end" not in reply.text


def test_vllm_goes_on_where_it_is_asked_to_ignore_the_end(vllm: Engine, end: int) -> None:
    (reply,) = complete_all(vllm, [ask("Tom", **wants(end, ignore_eos=True))])
    assert (reply.finish_reason, reply.completion_tokens) == ("length", LONGEST)


def test_a_guided_reply_is_whole_and_ends(vllm: Engine) -> None:
    schema = {"type": "object", "properties": {"answer": {"enum": [4, 5]}}, "required": ["answer"]}
    guided = [ask("2 + 2?", id=str(i), seed=i, max_tokens=64, structured_outputs={"json": schema}) for i in range(4)]
    for reply in complete_all(vllm, guided):
        assert reply.finish_reason == "stop"
        assert json.loads(reply.text)["answer"] in (4, 5)


def test_transformers_stops_there_with_the_same_text(vllm: Engine, model: Path, end: int) -> None:
    engine = hf.open(hf.Config(model=str(model), args={"dtype": "float32"}))
    engine._model.lm_head.register_forward_hook(lambda module, given, logits: _raised(logits, end))
    (theirs,) = complete_all(vllm, [ask("Tom has 3 apples.", **wants(end))])
    (ours,) = complete_all(engine, [ask("Tom has 3 apples.", temperature=0, max_tokens=LONGEST, min_tokens=5)])
    engine.close()
    assert (ours.finish_reason, ours.completion_tokens) == ("stop", 6)
    assert ours.text.rstrip("\ufffd") == theirs.text.rstrip("\ufffd")  # vLLM keeps back the bytes of a cut character


def _raised(logits: Any, token: int) -> Any:
    logits[..., token] += 100.0
    return logits


class StandIn(FakeEndpoint):
    """In place of a server that is started here, with the chat template it was started with."""

    template: str | None = None


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    fake = StandIn()

    def start(server: ManagedServer, args: dict[str, Any], adapter: Any) -> None:
        server.base_url = fake.base_url
        fake.template = Path(args["chat_template"]).read_text() if "chat_template" in args else None

    monkeypatch.setattr(ManagedServer, "__init__", start)
    for name in ("wait_ready", "check_alive", "stop"):
        monkeypatch.setattr(ManagedServer, name, lambda *_: None)
    yield fake
    fake.stop()


def test_a_server_started_here_is_told_in_each_request(model: Path, end: int, started: StandIn) -> None:
    engine = server.open(server.Config(model=str(model), serve=True))
    complete_all(engine, [ask("Tom", id="a", max_tokens=4, stop_token_ids=[7]), ask("Tom", id="b", ignore_eos=True)])
    engine.close()
    told = {body.get("max_tokens"): body for body in started.bodies}
    assert told[4]["stop_token_ids"] == [7, end]
    assert "stop_token_ids" not in told[None]
    assert started.template is None


@pytest.mark.parametrize(("dialect", "names_it"), [("vllm", True), ("openai", False)])
def test_a_server_that_runs_already_is_told_where_the_tokenizer_lies_here(
    model: Path, end: int, started: StandIn, dialect: str, names_it: bool
) -> None:
    config: dict[str, Any] = {
        "model": "served-name",
        "tokenizer": str(model),
        "base_urls": [started.base_url],
        "dialect": dialect,
    }
    engine = server.open(server.Config(**config))
    complete_all(engine, [ask("Tom", max_tokens=4)])
    engine.close()
    assert started.bodies[0].get("stop_token_ids") == ([end] if names_it else None)


def test_a_server_started_here_is_told_the_date_that_the_run_shows(
    tiny_model: Path, tmp_path: Path, started: StandIn
) -> None:
    model = put_on(Path(shutil.copytree(tiny_model, tmp_path / "dated")), SHAPES["dated"])
    server.open(server.Config(model=str(model), serve=True)).close()
    template = ChatTemplate(str(started.template), ())
    turns = ask("Tom").messages
    expected = chat.prompt_text(chat.load_tokenizer(str(model)), turns)
    assert template.render(turns, generation_prompt=True, strftime_now=None) == expected
