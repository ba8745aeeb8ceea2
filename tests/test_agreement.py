"""Trainer against engine: what is compared, what is named, what is not judged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloop import agreement
from synthloop.agreement import Scored, TrainedModel
from synthloop.errors import StageFailed
from synthloop.files import write_json
from synthloop.records import Completion
from synthloop.store import sha256

CONFIG = {"r": 4, "lora_alpha": 8, "use_rslora": False}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A saved adapter; what its weights are does not matter here."""
    folder = tmp_path / "adapter"
    write_json(folder / "adapter_config.json", CONFIG)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def trained(adapter: Path, **changes: Any) -> TrainedModel:
    rows = (
        Scored(id="a", token_ids=(1, 2, 3), logprobs=(-1.0, -2.0)),
        Scored(id="b", token_ids=(4, 5), logprobs=(-3.0,)),
    )
    known = {"dtype": "float32", "quantized": False, "lora": {"r": 4}, "adapter_config": CONFIG, "rows": rows}
    return TrainedModel(**{**known, "sha256": sha256(adapter / "adapter_model.safetensors"), **changes})


def reply(*logprobs: float | None, error: str | None = None) -> Completion:
    return Completion(
        request_id="x", text="", finish_reason="error" if error else "length", prompt_tokens=3, completion_tokens=1,
        prompt_logprobs=None if error else (None, *logprobs), error=error,
    )  # fmt: skip


def judge(adapter: Path, *replies: Completion, args: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return agreement.judge(trained(adapter, **changes), replies, adapter, args or {}, "float32")


def test_equal_up_to_rounding_passes_and_is_recorded(adapter: Path) -> None:
    facts = judge(adapter, reply(-1.0, -2.0003), reply(-3.0))
    assert (facts["judged"], facts["tokens"], facts["tolerance"]) == (True, 3, 0.001)
    assert facts["largest_difference"] == pytest.approx(0.0003)
    # 16 bits on either side round more.
    assert judge(adapter, reply(-1.02, -2.05), reply(-3.0), dtype="bfloat16")["judged"]
    assert agreement.judge(trained(adapter), [reply(-1.02, -2.05), reply(-3.0)], adapter, {}, None)["judged"]


def test_a_difference_names_row_token_and_both_values(adapter: Path) -> None:
    with pytest.raises(
        StageFailed, match=r"Row 'a', token 2: log-probability -2\.0000 by the trainer, -2\.5000 by the"
    ):
        judge(adapter, reply(-1.0, -2.5), reply(-3.0))


@pytest.mark.parametrize("bad", [None, math.nan, -math.inf])
def test_a_value_that_is_no_number_is_a_difference(adapter: Path, bad: float | None) -> None:
    with pytest.raises(StageFailed, match="Row 'b', token 1: log-probability -3"):
        judge(adapter, reply(-1.0, -2.0), reply(bad))
    with pytest.raises(StageFailed, match="token 2: log-probability none by the trainer, -9"):
        judge(adapter, reply(-1.0, -2.0), reply(-3.0, -9.0))


@given(
    logprobs=st.lists(st.floats(-30, 0), min_size=1, max_size=9),
    shift=st.floats(-9, 9),
    dtype=st.sampled_from(["float32", "bfloat16"]),
)
def test_the_mean_difference_decides(
    tmp_path_factory: pytest.TempPathFactory, logprobs: list[float], shift: float, dtype: str
) -> None:
    """The rule: above the tolerance the stage fails, whatever the values are; below it never does."""
    folder = tmp_path_factory.getbasetemp() / "rule"
    if not folder.exists():
        write_json(folder / "adapter_config.json", CONFIG)
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
    rows = (Scored(id="a", token_ids=tuple(range(len(logprobs) + 1)), logprobs=tuple(logprobs)),)
    answer = reply(*(one + shift for one in logprobs))
    mean = sum(abs(one - (one + shift)) for one in logprobs) / len(logprobs)
    if mean <= agreement.TOLERANCE[dtype]:
        assert judge(folder, answer, rows=rows, dtype=dtype)["judged"]
    else:
        with pytest.raises(StageFailed, match="is not the one that was trained"):
            judge(folder, answer, rows=rows, dtype=dtype)


@pytest.mark.parametrize(
    ("saved", "weights", "args", "lora", "named"),
    [
        ({**CONFIG, "use_rslora": True}, None, {}, {}, "says use_rslora=True, saved was False"),
        ({**CONFIG, "lora_alpha": 16}, None, {}, {}, "says lora_alpha=16, saved was 8"),
        ({**CONFIG, "alora_invocation_tokens": [3]}, None, {}, {}, "has alora_invocation_tokens=[3], which vLLM"),
        (CONFIG, b"others", {}, {}, "adapter_model.safetensors is not the file that the training saved"),
        (CONFIG, None, {"lora_target_modules": ["q_proj"]}, {}, "student.args.lora_target_modules=['q_proj']"),
        (CONFIG, None, {"hf_overrides": {"rope_theta": 9}}, {}, "student.args.hf_overrides={'rope_theta': 9}"),
        (CONFIG, None, {}, {"rank_pattern": {"q_proj": 2}}, "train.lora.rank_pattern={'q_proj': 2}"),
        (CONFIG, None, {}, {"init_lora_weights": "pissa"}, "train.lora.init_lora_weights='pissa'"),
        (CONFIG, None, {}, {"r": 4, "lora_dropout": 0.1}, "none that is known"),
    ],
)  # fmt: skip
def test_what_may_be_behind_it_is_named(
    adapter: Path, saved: dict[str, Any], weights: bytes | None, args: dict[str, Any], lora: dict[str, Any], named: str
) -> None:
    known = trained(adapter, lora=lora)
    write_json(adapter / "adapter_config.json", saved)
    (adapter / "adapter_model.safetensors").write_bytes(weights or b"weights")
    with pytest.raises(StageFailed) as error:
        agreement.judge(known, [reply(-4.0, -2.0), reply(-3.0)], adapter, args, "float32")
    assert named in str(error.value)


def test_weights_of_few_bits_are_measured_and_not_judged(adapter: Path) -> None:
    facts = judge(adapter, reply(-1.5, -2.0), reply(-3.0), quantized=True)
    assert (facts["judged"], facts["largest_difference"]) == (False, 0.5)
    assert "train.quantization" in facts["why"]
    facts = judge(adapter, reply(-1.5, -2.0), reply(-3.0), args={"quantization": "fp8"})
    assert facts["why"].startswith("student.args.quantization")


def test_what_an_engine_did_not_serve_is_told(adapter: Path) -> None:
    assert judge(adapter, reply(-1.0, -2.0), reply(error="too long"))["tokens"] == 2
    facts = judge(adapter, reply(error="too long"), reply(error="too long"))
    assert facts == {"compared": False, "why": "too long"}
