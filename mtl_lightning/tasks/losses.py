"""Losses that torch does not have, unreduced."""

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST = 1e-8
"""A smaller base of a power counts as this: the derivative of a power below 1 is infinite at 0."""


def focal(
    logits: Tensor, shares: Tensor, gamma: float, class_weight: Tensor | None = None
) -> Tensor:
    """Return the focal loss of each row, the sum of -w_k q_k (1 - p_k) ** gamma log p_k.

    With gamma 0 it is the cross-entropy; the larger it is, the less rows count that the network
    already answers well (Lin et al. 2017, "Focal Loss for Dense Object Detection", eq. 5; the
    weights of the classes are its alpha).

    Args:
        logits: ``(B, K)``.
        shares: ``(B, K)``, the share q of each class in the label.
        gamma: 0 or more; 2 in the paper.
        class_weight: ``(K,)``.

    Returns:
        ``(B,)``.
    """
    log_p = logits.log_softmax(1)
    losses = -shares * (-log_p.expm1()).clamp(min=LEAST) ** gamma * log_p
    return (losses if class_weight is None else losses * class_weight).sum(1)


def asymmetric(
    logits: Tensor, targets: Tensor, gamma_positive: float, gamma_negative: float, margin: float
) -> Tensor:
    """Return the asymmetric loss of each cell, which counts easy negatives little or not at all.

    A positive has -(1 - p) ** gamma_positive log p, a negative -q ** gamma_negative log(1 - q)
    with q = max(p - margin, 0) (Ridnik et al. 2021, "Asymmetric Loss For Multi-Label
    Classification", eq. 7). With all three 0 it is the binary cross-entropy.

    Args:
        logits: ``(B, L)``.
        targets: ``(B, L)``, the probability that the label applies.
        gamma_positive: 0 or more.
        gamma_negative: 0 or more; usually larger.
        margin: Negatives with a smaller probability have no loss.

    Returns:
        ``(B, L)``.
    """
    positive = (-logits).sigmoid().clamp(min=LEAST) ** gamma_positive * F.logsigmoid(logits)
    shifted = (logits.sigmoid() - margin).clamp(min=LEAST)
    # Without a margin, 1 - p may be rounded to 0.
    log_not = F.logsigmoid(-logits) if margin == 0 else (1 - shifted).log()
    negative = shifted**gamma_negative * log_not
    return -(targets * positive + (1 - targets) * negative)


def beta_nll(means: Tensor, variances: Tensor, targets: Tensor, beta: float) -> Tensor:
    """Return the negative log-likelihood of normal distributions, weighted by var ** beta.

    It is w (log var + (y - m)^2 / var) / 2 with the weight w = var ** beta, which has no gradient
    (Seitzer et al. 2022, "On the Pitfalls of Heteroscedastic Uncertainty Estimation with
    Probabilistic Neural Networks", section 4; without the constant). With beta 0 it is the
    likelihood, in which rows that the network cannot answer yet count ever less; with beta 1 the
    mean learns as from the squared error.

    Args:
        means: The mean m of each.
        variances: Their variances, above 0.
        targets: The labels y.
        beta: In 0..1; 0.5 in the paper.
    """
    losses = (variances.log() + (targets - means).square() / variances) / 2
    return variances.detach() ** beta * losses


def smoothed_shares(targets: Tensor, classes: int, smoothing: float, dtype: torch.dtype) -> Tensor:
    """Return ``(B, K)`` shares of ``(B,)`` classes, or of such shares, spread evenly in part.

    Args:
        targets: ``(B,)`` int64 or ``(B, K)`` floating.
        classes: K.
        smoothing: The part that is spread over all classes.
        dtype: That of the result.
    """
    shares = targets if targets.is_floating_point() else F.one_hot(targets, classes)
    return shares.to(dtype) * (1 - smoothing) + smoothing / classes
