"""What the student got wrong, as the rows that seed the next round."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from synthloop.records import Example, Failure, Prediction

SOURCES = ("probe", "train")
"""The only splits whose failures may be learned from; `gate` and `test` stay held out."""


def collect(
    split: str, examples: Sequence[Example], predictions: Sequence[Prediction], refused: Collection[str] = ()
) -> Iterator[Failure]:
    """One `Failure` for every wrong prediction, in order. `refused` are ids the engine could not serve: no answer, so
    nothing to learn from.
    """
    assert split in SOURCES, split
    for example, prediction in zip(examples, predictions, strict=True):
        assert example.id == prediction.id, (example.id, prediction.id)
        if prediction.correct or prediction.id in refused:
            continue
        yield Failure(
            id=example.id,
            split=split,
            example=example,
            response=prediction.response,
            parsed=prediction.parsed,
            truncated=prediction.truncated,
        )
