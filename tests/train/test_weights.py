"""Row weights on real TRL: what a weight does to the gradient, with and without packing, and what refuses weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import set_seed

from synthloop.errors import UserError
from synthloop.records import Row
from tests.train.jobs import example_rows
from train.objectives import sft
from train.rows import Tokens, read_training_rows
from train.weights import describe_weights, token_weights

pytestmark = pytest.mark.filterwarnings("ignore:The `'keep_end'`:FutureWarning")

LAYOUTS = {
    "padded": {},
    "cut": {"max_length": 60},
    "keep_end": {"max_length": 60, "truncation_mode": "keep_end"},
    "packed": {"packing": True, "max_length": 128},
    "split": {"packing": True, "packing_strategy": "bfd_split", "max_length": 60},
    "padding_free": {"padding_free": True, "max_length": None},
}
"""Settings of SFTConfig under which rows meet in a batch; 'cut' and 'split' cut some rows in two."""


def weighted(*weights: float) -> list[Row]:
    """The first example rows, one a weight."""
    return [
        row.model_copy(update={"weight": weight})
        for row, weight in zip(example_rows(len(weights)), weights, strict=True)
    ]


def build(model: Path, folder: Path, rows: Sequence[Row], **args: Any) -> Any:
    """A trainer that takes all rows in one step, if not told otherwise."""
    defaults = {"per_device_train_batch_size": 64, "gradient_checkpointing": False, "save_strategy": "no"}
    config = sft.Config(model=str(model), output_dir=folder, args={**defaults, **args}, lora={"r": 4})
    set_seed(0)
    trainer, _ = sft.build_trainer(config, sft.build_args(config), list(rows))
    return trainer


def step(trainer: Any, batch: dict[str, Any] | None = None) -> tuple[float, torch.Tensor]:
    """(loss, gradient of all LoRA weights) of one batch."""
    given = next(iter(trainer.get_train_dataloader())) if batch is None else batch
    num_items = trainer._get_num_items_in_batch([given], torch.device("cpu"))
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model.train(), dict(given), num_items_in_batch=num_items)
    loss.backward()
    gradients = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
    return loss.item(), torch.cat(gradients)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_row_of_weight_0_is_not_there(tiny_model: Path, tmp_path: Path, layout: str) -> None:
    rows = weighted(1, 0, 1, 1, 0, 1)
    loss, gradient = step(build(tiny_model, tmp_path, rows, **LAYOUTS[layout]))
    without, expected = step(build(tiny_model, tmp_path, [row for row in rows if row.weight], **LAYOUTS[layout]))
    assert loss == pytest.approx(without, rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    all_of_them, _ = step(build(tiny_model, tmp_path, example_rows(6), **LAYOUTS[layout]))
    assert loss != pytest.approx(all_of_them, rel=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_row_of_weight_2_is_there_twice(tiny_model: Path, tmp_path: Path, layout: str) -> None:
    rows = weighted(1, 2, 1, 1)
    loss, gradient = step(build(tiny_model, tmp_path, rows, **LAYOUTS[layout]))
    copies = [row for row in example_rows(4) for _ in range(2 if row.id == "row-1" else 1)]
    twice, expected = step(build(tiny_model, tmp_path, copies, **LAYOUTS[layout]))
    assert loss == pytest.approx(twice, rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_wrapped_packs_keep_the_weight_of_each_token(tiny_model: Path, tmp_path: Path) -> None:
    """Rows see their neighbours there, so no set without a row is the same; the tokens' weights still are theirs."""
    args = {"packing": True, "packing_strategy": "wrapped", "max_length": 100}
    packs = build(tiny_model, tmp_path, weighted(1, 2, 4), **args).train_dataset
    rows = build(tiny_model, tmp_path, weighted(1, 2, 4), max_length=None).train_dataset
    assert len(packs) != len(rows)
    for column in ("input_ids", "labels", "weights"):
        flat = [[value for row in data[column] for value in row] for data in (packs, rows)]
        assert flat[0] == flat[1]
    assert len(set(flat[0])) == 3


def test_a_weight_counts_in_a_step_of_one_row_too(tiny_model: Path, tmp_path: Path) -> None:
    def by_row(rows: Sequence[Row]) -> list[torch.Tensor]:
        trainer = build(tiny_model, tmp_path, rows, per_device_train_batch_size=1)
        return [step(trainer, batch)[1] for batch in trainer.get_train_dataloader()]

    heavy, light = by_row(weighted(3, 1)), by_row(example_rows(2))
    ratios = sorted(float(one.norm() / other.norm()) for one, other in zip(heavy, light, strict=True))
    assert ratios[1] / ratios[0] == pytest.approx(3, rel=1e-4)


def test_rows_of_one_weight_train_as_if_they_had_none(tiny_model: Path, tmp_path: Path) -> None:
    from trl import SFTTrainer

    def losses(rows: Sequence[Row]) -> list[float]:
        trainer = build(tiny_model, tmp_path, rows, max_steps=2, logging_steps=1, per_device_train_batch_size=4)
        assert type(trainer) is SFTTrainer
        assert "weights" not in trainer.train_dataset.column_names
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    assert losses(example_rows(8)) == losses(weighted(*[0.5] * 8))


def test_accumulated_steps_take_the_weights_of_the_whole_step(tiny_model: Path, tmp_path: Path) -> None:
    def trained(**args: Any) -> tuple[list[float], torch.Tensor]:
        rows = weighted(1, 3, 0.5, 1, 0, 2, 1, 1)
        trainer = build(tiny_model, tmp_path, rows, max_steps=2, logging_steps=1, learning_rate=0.01, **args)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return losses, torch.cat([p.detach().flatten() for p in trainer.model.parameters() if p.requires_grad])

    whole, weights = trained(per_device_train_batch_size=4)
    parts, expected = trained(per_device_train_batch_size=1, gradient_accumulation_steps=4)
    assert whole == pytest.approx(parts, rel=1e-4)
    assert whole[0] != whole[1]
    torch.testing.assert_close(weights, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("weights", "args", "message"),
    [
        ((1, 2), {"loss_type": "dft"}, "Set train.args.loss_type to nll"),
        ((1, 2), {"label_smoothing_factor": 0.1}, "Set train.args.label_smoothing_factor to 0"),
    ],
)
def test_losses_that_weights_cannot_scale_are_refused(
    tiny_model: Path, tmp_path: Path, weights: tuple[float, ...], args: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build(tiny_model, tmp_path, weighted(*weights), **args)


class Args:
    loss_type, label_smoothing_factor, completion_only_loss = "nll", 0.0, True
    max_length, packing, truncation_mode = 5, False, "keep_start"


def test_weights_are_scaled_to_a_mean_of_1_over_the_tokens_of_the_loss() -> None:
    tokens = [Tokens([1] * 4, [0, 1, 1, 1]), Tokens([1] * 5, [0, 0, 0, 0, 1])]
    rows = weighted(1, 3)
    # The second row has one token: the mean of (1, 1, 1, 3) is 1.5.
    assert token_weights(rows, tokens, Args) == [[1 / 1.5] * 4, [3 / 1.5] * 5]
    assert token_weights(weighted(2, 2), tokens, Args) is None
    tokens[1] = Tokens([1] * 5, [0] * 5)
    with pytest.raises(UserError, match="has weight 0"):
        token_weights(weighted(0, 1), tokens, Args)
    with pytest.raises(UserError, match="has weight 0"):
        token_weights(weighted(0, 0), tokens, Args)
    assert describe_weights(weighted(0, 1, 1, 2)) == {"zero_weight_rows": 1, "effective_rows": 3}


def test_a_users_line_may_carry_a_weight(tmp_path: Path) -> None:
    def read(**keys: Any) -> list[float]:
        lines = [{"prompt": "3 + 4?", "completion": "7", **keys}, example_rows(1)[0].model_dump() | keys]
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return [row.weight for row in read_training_rows(path)]

    assert read() == [1.0, 1.0]
    assert read(weight=2) == [2.0, 2.0]
    assert read(weight=0) == [0.0, 0.0]
    for bad in (-1, "2", True, float("nan"), float("inf")):
        with pytest.raises(UserError, match="line 1: ('weight' should be a number of 0 or more|NaN|Infinity)"):
            read(weight=bad)
