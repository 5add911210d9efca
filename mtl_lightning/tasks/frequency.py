"""Weights of classes by their frequency in the training labels."""

from typing import Literal

import torch
from torch import Tensor

from mtl_lightning.system.errors import UserError

ByFrequency = Literal["balanced", "sqrt", "effective"]
"""How much a class weighs, relative to others, if n training labels have it.

``balanced``: 1 / n, so that each class counts the same. ``sqrt``: 1 / sqrt(n), half as strong on a
logarithmic scale. ``effective``: (1 - beta) / (1 - beta ** n), the inverse of the effective number
of samples: nearly ``balanced`` for classes with far fewer labels than 1 / (1 - beta), nearly equal
weights for those with far more (Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of
Samples").
"""

MOST_WEIGHT = 100.0
"""The largest ratio of two such weights: with two positives in 19,000 each would weigh as much as
9,500 negatives, and the network would memorise these two images."""


def check_beta(beta: float) -> None:
    """Check the parameter of ``effective``.

    Raises:
        UserError: If it is not between 0 and 1.
    """
    if not 0 < beta < 1:
        raise UserError(
            f"beta should be above 0 and below 1, such as 0.9, 0.99 or 0.999. Found {beta}"
        )


def unbounded(counts: Tensor, by: ByFrequency, beta: float) -> Tensor:
    """Return the weights of counts, of which those below 1 count as 1, in float64."""
    counts = counts.double().clamp(min=1)
    if by == "balanced":
        return 1 / counts
    if by == "sqrt":
        return counts.rsqrt()
    return (1 - beta) / (1 - beta**counts)


def class_weights(counts: Tensor, by: ByFrequency, beta: float) -> Tensor:
    """Return a weight for each class, at most `MOST_WEIGHT` times the smallest.

    Args:
        counts: ``(K,)``, the training labels of each class; shares of labels count in part.
        by: How weights depend on them.
        beta: The parameter of ``effective``.

    Returns:
        ``(K,)`` float64, of any scale; 0 for a class without labels.
    """
    weights = unbounded(counts, by, beta)
    weights = weights.clamp(max=MOST_WEIGHT * weights[counts > 0].min())
    return torch.where(counts > 0, weights, 0.0)


def positive_ratios(positive: Tensor, negative: Tensor, by: ByFrequency, beta: float) -> Tensor:
    """Return how many times more a positive weighs than a negative, at most `MOST_WEIGHT`.

    Args:
        positive: ``(L,)``, the positives among each label's training labels.
        negative: ``(L,)``, the negatives.
        by: How weights depend on them.
        beta: The parameter of ``effective``.

    Returns:
        ``(L,)`` float64.
    """
    return _ratios(positive, negative, by, beta).clamp(max=MOST_WEIGHT)


def bounded(positive: Tensor, negative: Tensor, by: ByFrequency, beta: float) -> Tensor:
    """Return which of the ratios of `positive_ratios` are bounded: ``(L,)`` bool."""
    return _ratios(positive, negative, by, beta) > MOST_WEIGHT


def _ratios(positive: Tensor, negative: Tensor, by: ByFrequency, beta: float) -> Tensor:
    if by == "balanced":  # exactly, not as a quotient of rounded weights
        return negative.double().clamp(min=1) / positive.double().clamp(min=1)
    return unbounded(positive, by, beta) / unbounded(negative, by, beta)
