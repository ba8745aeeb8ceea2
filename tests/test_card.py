"""The card of an adapter that was just trained; those of exports are in tests/train/test_export.py."""

from pathlib import Path

import pytest

from synthloop.card import base_model, training_card
from synthloop.config import Student
from synthloop.store import write_json


def test_a_fresh_adapters_card_says_what_it_is_and_how_to_load_it(tmp_path: Path) -> None:
    write_json(tmp_path / "adapter_config.json", {"r": 24})
    card = training_card("Qwen/Qwen3-0.6B", "sft", 120, tmp_path)
    assert card.startswith("---\nbase_model: Qwen/Qwen3-0.6B\nlibrary_name: peft\n")
    assert "trained (sft) on 120 rows" in card
    assert "--max-lora-rank 32" in card
    assert str(tmp_path) not in card
    write_json(tmp_path / "adapter_config.json", {"r": 24, "use_dora": True})
    assert "vllm serve" not in training_card("Qwen/Qwen3-0.6B", "sft", 120, tmp_path)  # which would refuse it


def test_a_base_model_is_a_hub_id_or_a_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student").mkdir()
    assert base_model(Student(model="student")) == str((tmp_path / "student").resolve())
    assert base_model(Student(model="Qwen/Qwen3-0.6B")) == "Qwen/Qwen3-0.6B"
