"""What all engines share: identities, ranks, and complete_all over an engine that only counts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from synthloop import engines, plugins
from synthloop.engines import adapter_fingerprint, adapter_rank, complete_all, hf, identity, server, vllm_offline
from synthloop.engines._fingerprint import SAMPLE_BYTES, folder_fingerprint
from synthloop.engines._managed_server import command_line
from synthloop.engines._vllm import adapter_modules, engine_args
from synthloop.errors import UserError
from synthloop.journal import Journal
from synthloop.records import Completion, Request
from tests.engines.conftest import ask


class Echo:
    """Answers the last in first, one a poll, and counts."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []
        self.num_asked = 0
        self.most_waiting = 0

    def submit(self, request: Request) -> None:
        self.waiting.append(request)
        self.num_asked += 1
        self.most_waiting = max(self.most_waiting, len(self.waiting))

    def poll(self) -> list[Completion]:
        return [self._answer(self.waiting.pop())] if self.waiting else []

    def _answer(self, request: Request) -> Completion:
        text = request.messages[0]["content"]
        failed = text == "bad"
        return Completion(
            request_id=request.id,
            text=text,
            finish_reason="error" if failed else "stop",
            prompt_tokens=1,
            completion_tokens=1,
            error="refused" if failed else None,
        )

    def close(self) -> None:
        pass


def test_replies_come_in_the_order_of_the_requests_with_bounded_flight() -> None:
    engine = Echo()
    progress: list[tuple[int, int]] = []
    asked = [ask(f"q{i}", id=f"id{i}") for i in range(50)]
    replies = complete_all(engine, asked, on_progress=lambda *done: progress.append(done), max_in_flight=7)
    assert [(one.request_id, one.text) for one in replies] == [(f"id{i}", f"q{i}") for i in range(50)]
    assert engine.most_waiting == 7
    assert progress[0] == (0, 50)
    assert progress[-1] == (50, 50)
    assert progress == sorted(progress)


def test_equal_requests_are_asked_once() -> None:
    engine = Echo()
    replies = complete_all(engine, [ask("same", id=str(i)) for i in range(5)])
    assert engine.num_asked == 1
    assert [one.request_id for one in replies] == list("01234")


def test_the_journal_answers_what_was_asked_and_never_keeps_errors(tmp_path: Path) -> None:
    asked = [ask("a", id="1"), ask("bad", id="2"), ask("c", id="3")]
    who = {"engine": "echo", "model": "m"}
    with Journal(tmp_path / "journal.sqlite", "eval") as journal:
        first = complete_all(Echo(), asked, journal, who)
        again = Echo()
        assert complete_all(again, asked, journal, who) == first
        assert again.num_asked == 1
        assert first[1].finish_reason == "error"
        other = Echo()
        complete_all(other, asked, journal, {**who, "model": "another"})
        assert other.num_asked == 3


def test_a_model_is_known_by_its_content(tiny_model: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(tiny_model, tmp_path / "moved")
    (moved / "README.md").write_text("a model card")
    here, there = (vllm_offline.Config(model=str(folder)) for folder in (tiny_model, moved))
    assert identity(here) == identity(there)
    weights = moved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert identity(here) != identity(there)


def test_what_changes_answers_is_in_the_identity_and_what_does_not_is_not(tiny_model: Path) -> None:
    def of(**settings: object) -> dict[str, object]:
        return identity(vllm_offline.Config.model_validate({"model": str(tiny_model), **settings}))

    assert of() == of(args={"max_num_seqs": 3, "gpu_memory_utilization": 0.5})
    assert of() != of(args={"dtype": "float32"})
    assert of() != of(sampling={"temperature": 0.3})
    assert of() != of(chat_template_kwargs={"enable_thinking": False})
    assert of()["engine"] == "vllm_offline"
    assert identity(hf.Config(model=str(tiny_model)))["engine"] == "hf"
    assert identity(hf.Config(model="org/name", revision="abc"))["model"] == "org/name"


def test_an_adapter_is_known_by_its_content(adapter: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(adapter, tmp_path / "moved")
    config = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "elsewhere"}))
    assert adapter_fingerprint(adapter) == adapter_fingerprint(moved)
    (moved / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 1}))
    assert adapter_fingerprint(adapter) != adapter_fingerprint(moved)


def test_a_large_file_is_sampled_at_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    content = bytearray(5 * SAMPLE_BYTES)
    path.write_bytes(content)
    before = folder_fingerprint(tmp_path)
    content[-1] = 1
    path.write_bytes(content)
    assert folder_fingerprint(tmp_path) != before


def test_rank_is_the_largest_of_the_pattern(adapter: Path, tmp_path: Path) -> None:
    assert adapter_rank(adapter) == 4
    (tmp_path / "adapter_config.json").write_text('{"r": 8, "rank_pattern": {"q_proj": 32}}')
    assert adapter_rank(tmp_path) == 32
    with pytest.raises(UserError, match="adapter_config.json"):
        adapter_rank(tmp_path / "nowhere")


@pytest.mark.parametrize("engine", [server, vllm_offline])
def test_an_adapter_that_vllm_would_apply_in_part_is_refused(
    adapter: Path, tiny_model: Path, tmp_path: Path, engine: Any
) -> None:
    serve = {"serve": True} if engine is server else {}
    partly = engine.Config(model=str(tiny_model), args={"lora_target_modules": ["q_proj", "v_proj"]}, **serve)
    with pytest.raises(UserError, match="'student.args.lora_target_modules' lacks down_proj"):
        engine_args(partly, adapter)
    wider = {"lora_target_modules": ["q_proj", "v_proj", "down_proj", "o_proj"]}
    config = engine.Config(model=str(tiny_model), args=wider, **serve)
    assert engine_args(config, adapter)["lora_target_modules"] == wider["lora_target_modules"]
    old = shutil.copytree(adapter, tmp_path / "old")
    settings = json.loads((old / "adapter_config.json").read_text())
    (old / "adapter_config.json").write_text(json.dumps({**settings, "alpha_pattern": {"q_proj": 3}}))
    with pytest.raises(UserError, match=r"trained with alpha_pattern=\{'q_proj': 3\}, which vLLM does not apply"):
        engine_args(config, old)


def test_a_server_of_ours_ignores_the_file_and_writes_compact_json(tiny_model: Path) -> None:
    """On every device, unless the user says otherwise."""
    for config in (server.Config(model=str(tiny_model), serve=True), vllm_offline.Config(model=str(tiny_model))):
        args = engine_args(config, None)
        assert args["generation_config"] == "vllm"
        assert args["structured_outputs_config"]["disable_any_whitespace"] is True
    line = command_line(
        engine_args(server.Config(model="m", serve=True, args={"generation_config": "auto"}), None), 1, None
    )
    assert line[line.index("--generation-config") + 1] == "auto"


def test_a_broken_adapter_is_named(adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(adapter, tmp_path / "broken")
    weights = broken / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="broken: its weights cannot be read"):
        hf.open(hf.Config(model=str(tiny_model)), broken)
    weights.write_bytes(b"\xff" * 1000)
    with pytest.raises(UserError, match="adapter_model.safetensors: not a safetensors file"):
        adapter_modules(broken)
    (broken / "adapter_config.json").write_bytes(b'{"r": \xff}')
    with pytest.raises(UserError, match="adapter_config.json: not valid JSON"):
        adapter_rank(broken)


@pytest.mark.parametrize("name", plugins.names("engine"))
def test_every_engine_is_a_plugin_with_a_config(name: str) -> None:
    module = plugins.load("engine", name)
    assert issubclass(module.Config, engines.EngineConfig)
