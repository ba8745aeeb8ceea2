"""Importance of synthetic texts: how much likelier each is among real ones, from a classifier of hashed n-grams.

    weight(x) ∝ p_real(x) / p_synthetic(x) = odds that x is real        (with as many real as synthetic, by weighting)

The features are DSIR's (Xie et al. 2023, arXiv:2302.03169, section 3.1): word unigrams and bigrams, hashed to buckets.
DSIR takes the ratio of two bag-of-n-grams models, which grows with the length of a text and all but picks single texts;
as weights in a loss the odds of a regularised logistic regression are steadier (Sugiyama et al., "Density Ratio
Estimation in Machine Learning", 2012, chapter 4). A text's odds come from classifiers that have not seen it: with more
buckets than texts, one that had would tell it from real by heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array, hstack, vstack
from scipy.special import expit

from synthloop.hashing import hash_ngrams
from synthloop.similarity import hashed_words

Vector = NDArray[np.float64]


def features(texts: Sequence[str], num_buckets: int) -> Any:
    """Which buckets the unigrams and bigrams of each text fall into: a CSR `(texts, buckets)`, rows of length 1."""
    rows: list[NDArray[Any]] = [np.zeros(0, np.int64)]
    buckets: list[NDArray[Any]] = [np.zeros(0, np.int64)]
    num_texts = 0
    for chunk in hashed_words(texts):
        for size in (1, 2):
            grams = hash_ngrams(chunk.words, size)
            rows.append(grams.row_of_values() + num_texts)
            buckets.append((grams.values % np.uint64(num_buckets)).astype(np.int64))
        num_texts += chunk.num_texts
    places = np.unique(np.concatenate(rows) * num_buckets + np.concatenate(buckets))
    in_row, in_bucket = places // num_buckets, places % num_buckets
    values = 1 / np.sqrt(np.bincount(in_row, minlength=len(texts)))[in_row]
    return csr_array((values, (in_row, in_bucket)), shape=(len(texts), num_buckets))


def odds(real: Any, synthetic: Any, folds: Sequence[int], strength: float = 1.0) -> Vector:
    """For each row of `synthetic`, the odds that it is real, by a classifier trained without its fold.

    Args:
        real, synthetic: features, at least one row each.
        folds: of each synthetic row; at least two different ones.
        strength: of the L2 penalty, where the losses of all rows add up to their number.
    """
    result = np.ones(synthetic.shape[0])
    of_row = np.asarray(folds)
    for fold in sorted(set(folds)):
        rest = synthetic[np.flatnonzero(of_row != fold)]
        coefficients = _logistic(real, rest, strength)
        result[of_row == fold] = np.exp(_with_ones(synthetic[np.flatnonzero(of_row == fold)]) @ coefficients)
    return result


def weights(ratios: Vector, max_ratio: float) -> Vector:
    """`ratios` over their mean, clipped to [1/max_ratio, max_ratio], then scaled to a mean of exactly 1."""
    clipped = np.clip(ratios / ratios.mean(), 1 / max_ratio, max_ratio)
    scaled: Vector = clipped / clipped.mean()
    return scaled


def effective_size(weights: Vector) -> float:
    """(Σw)²/Σw²: how many equally weighted texts would estimate as well (Kish, "Survey Sampling", 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _with_ones(rows: Any) -> Any:
    """A last column for the intercept."""
    return hstack([rows, csr_array(np.ones((rows.shape[0], 1)))], format="csr")


def _logistic(real: Any, synthetic: Any, strength: float) -> Vector:
    """Coefficients, the intercept last and without a penalty; both classes count the same in all."""
    num_real, num_synthetic = real.shape[0], synthetic.shape[0]
    rows = _with_ones(vstack([real, synthetic], format="csr"))
    signs = np.repeat([1.0, -1.0], [num_real, num_synthetic])
    half = (num_real + num_synthetic) / 2
    importance = np.repeat([half / num_real, half / num_synthetic], [num_real, num_synthetic])
    penalised = np.ones(rows.shape[1])
    penalised[-1] = 0

    def loss(coefficients: Vector) -> tuple[float, Vector]:
        margins = signs * (rows @ coefficients)
        slopes = -importance * signs * expit(-margins)
        penalty = strength * penalised * coefficients
        value = importance @ np.logaddexp(0, -margins) + penalty @ coefficients / 2
        return float(value), rows.T @ slopes + penalty

    fitted: Vector = minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B").x
    return fitted
