"""Row weights in the loss: TRL's `SFTTrainer` with the loss of each token times the weight of its row.

    loss = Σ_i w_i·ℓ_i / Σ_i w_i        the weighted mean over all tokens i of the data that the loss is on

Weights are relative. They are scaled once, to a mean of 1 over those tokens, and a step then divides by its number of
tokens as it always does: a row of weight 2 is worth two copies of it, whatever it shares a batch with. Dividing by the
weights of each step instead would leave a step of a single row without any effect of its weight.

Where all rows weigh the same there is nothing to do, and TRL's own trainer trains.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import chain
from typing import Any

from synthloop.errors import UserError
from synthloop.records import Row
from train.rows import Tokens, sft_cut


def token_weights(rows: Sequence[Row], tokens: Sequence[Tokens], args: Any) -> list[list[float]] | None:
    """For each row, its scaled weight once a token; None where all rows weigh the same.

    Args:
        tokens: as they are trained, after `max_length` has cut them; the mask is 1 where the loss is.
        args: the `SFTConfig`.

    Raises:
        UserError: no row that keeps a token to learn from has a weight, or `args` can't be combined with weights.
    """
    weights = {row.weight for row in rows}
    if len(weights) == 1 and weights != {0}:
        return None
    refuse_unweightable(args)
    learns = sft_cut(args).learns
    counts = [learns(one.completion_mask) for one in tokens]
    total = sum(row.weight * count for row, count in zip(rows, counts, strict=True))
    if total == 0:
        raise UserError("Every row that has a completion to learn from has weight 0. Give some a positive `weight`.")
    scale = sum(counts) / total
    return [[row.weight * scale] * len(one.input_ids) for row, one in zip(rows, tokens, strict=True)]


def describe_weights(rows: Sequence[Row]) -> dict[str, int]:
    """Counts for the stage's record: `effective_rows` is (Σw)²/Σw², the rows an unweighted set would need (Kish)."""
    weights = [row.weight for row in rows]
    return {
        "zero_weight_rows": sum(weight == 0 for weight in weights),
        "effective_rows": round(sum(weights) ** 2 / sum(weight**2 for weight in weights)),
    }


def refuse_unweightable(args: Any) -> None:
    """Raise `UserError` for losses that are not a sum of the tokens' own log-probabilities."""
    for key, plain in (("loss_type", "nll"), ("label_smoothing_factor", 0)):
        if getattr(args, key) != plain:
            raise UserError(
                f"train.args.{key}={getattr(args, key)} and rows of different weight can't be combined: weights scale "
                f"each token's own negative log-likelihood. Set train.args.{key} to {plain}, or give all rows one "
                "weight (leave the filter `reweight` and `mix.weights` out)."
            )


class WeightedCollator:
    """TRL's collator, and `weights` beside the labels: float32 of the same shape, 0 on padding."""

    def __init__(self, collator: Any) -> None:
        self._collator = collator

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        batch: dict[str, Any] = self._collator(examples)
        rows = [one["weights"][: len(one["input_ids"])] for one in examples]
        if self._collator.padding_free:
            rows = [list(chain.from_iterable(rows))]
        batch["weights"] = torch.zeros(batch["labels"].shape)
        for place, row in enumerate(rows):
            batch["weights"][place, : len(row)] = torch.tensor(row)
        return batch


def weighted_trainer() -> Any:
    """The subclass of `trl.SFTTrainer` that reads the column `weights` of its rows."""
    from trl import SFTTrainer, pack_dataset

    class WeightedSFTTrainer(SFTTrainer):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            parallelism = self.accelerator.parallelism_config
            if parallelism is not None and (parallelism.cp_enabled or parallelism.sp_enabled):
                raise UserError(
                    "Rows of different weight can't be trained with context or sequence parallelism, which share out "
                    "the tokens of a row before the loss. Use data parallelism, or give all rows one weight."
                )
            self.data_collator: Any = WeightedCollator(self.data_collator)

        def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, packing: bool, *others: Any) -> Any:
            if not packing:
                return super()._prepare_dataset(dataset, processing_class, args, packing, *others)
            # TRL packs ids and labels and drops the rest: prepare without packing, then pack the weights too.
            whole = copy.copy(args)
            whole.max_length = None
            rows = super()._prepare_dataset(dataset, processing_class, whole, False, *others)
            rows = rows.select_columns(["input_ids", "labels", "weights"])
            packs = pack_dataset(rows, args.max_length, args.packing_strategy)
            return packs.shuffle(seed=args.seed) if args.shuffle_dataset else packs

        def _set_signature_columns_if_needed(self) -> None:
            super()._set_signature_columns_if_needed()
            self._signature_columns: list[str] = sorted({*self._signature_columns, "weights"})

        def compute_loss(self, model: Any, inputs: dict[str, Any], *others: Any, **named: Any) -> Any:
            weights = inputs["weights"][:, 1:]  # (batch, seq - 1), as the log-probabilities of the next token

            def weighted(**arguments: Any) -> Any:
                outputs = model(**arguments)
                outputs.log_probs = outputs.log_probs * weights.to(outputs.log_probs.device)
                return outputs

            rest = {key: value for key, value in inputs.items() if key != "weights"}
            return super().compute_loss(weighted, rest, *others, **named)

    return WeightedSFTTrainer
