"""Metrics of many yes/no labels, each of which may be missing on its own."""

import torch
from torch import Tensor
from torchmetrics import Metric

BINS = 1000
"""Fixed bins of the probability; area metrics are exact over them."""
MEASURES = ("ap", "f1", "accuracy", "ma")
"""The metrics of each label."""


class LabelMetrics(Metric):
    """Average precision, F1, accuracy and mA, per label and as means.

    The states are two histograms of the probability for each label, of its positives and of its
    negatives, and the outcomes: sums, so that ranks add up and no prediction is kept. Average
    precision treats the rows of each of the 1000 bins as ties; the others are of the labels that
    apply. A label whose
    value is undefined is left out of a mean: one without a labelled row; for average precision
    without a positive; for mA without a positive or without a negative; for F1 with neither a
    positive nor a false positive.

    Args:
        labels: Their names, in the order of the columns.
    """

    full_state_update = False
    higher_is_better = True
    positives: Tensor
    negatives: Tensor
    outcomes: Tensor

    def __init__(self, labels: list[str]) -> None:
        super().__init__()
        self.labels = labels
        for name in ("positives", "negatives"):
            zeros = torch.zeros(len(labels), BINS, dtype=torch.long)
            self.add_state(name, zeros, dist_reduce_fx="sum")
        zeros = torch.zeros(len(labels), 4, dtype=torch.long)
        self.add_state("outcomes", zeros, dist_reduce_fx="sum")

    @property
    def names(self) -> list[str]:
        """The names of the values that `compute` returns."""
        each = [f"{name}/{label}" for name in (*MEASURES, "n_labelled") for label in self.labels]
        return ["mean_ap", *MEASURES[1:], *each]

    def update(
        self, preds: Tensor, target: Tensor, labelled: Tensor, applies: Tensor | None = None
    ) -> None:
        """Add a batch.

        Args:
            preds: ``(B, L)`` probabilities.
            target: ``(B, L)``, 0 or 1.
            labelled: ``(B, L)``, the mask of what is labelled.
            applies: ``(B, L)`` bool, the answers; by default yes from 0.5 on.
        """
        applies, positive = preds >= 0.5 if applies is None else applies, target > 0.5
        cells = applies & positive, ~applies & positive, ~applies & ~positive, applies & ~positive
        self.outcomes += torch.stack([(each & labelled).sum(0) for each in cells], 1)
        positives, negatives = histograms(preds, target, labelled)
        self.positives += positives
        self.negatives += negatives

    def compute(self) -> dict[str, Tensor]:
        """Return ``mean_ap``, ``f1``, ``accuracy``, ``ma``, and each of them per label.

        mA is the mean of the recall of positives and the recall of negatives, averaged over
        labels (Deng et al. 2014, "Pedestrian attribute recognition at far distance", eq. 6).
        """
        hit, missed, rejected, false_alarms = self.outcomes.unbind(1)
        positive, negative = hit + missed, rejected + false_alarms
        values = {
            "ap": average_precision(self.positives, self.negatives),
            "f1": 2 * hit / (hit + positive + false_alarms),
            "accuracy": (hit + rejected) / (positive + negative),
            "ma": (hit / positive + rejected / negative) / 2,
        }
        result = {}
        for metric, by_label in values.items():
            known = ~by_label.isnan()
            result["mean_ap" if metric == "ap" else metric] = by_label[known].mean()
            for name, value in zip(self.labels, by_label, strict=True):
                result[f"{metric}/{name}"] = value
        for name, count in zip(self.labels, positive + negative, strict=True):
            result[f"n_labelled/{name}"] = count
        return result


def histograms(preds: Tensor, target: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
    """Return histograms of each label's probabilities, for its positives and its negatives.

    Args:
        preds: ``(B, L)`` probabilities.
        target: ``(B, L)``, 0 or 1.
        labelled: ``(B, L)``, the mask of what is labelled.

    Returns:
        Two tensors ``(L, BINS)`` int64.
    """
    labels = preds.shape[1]
    bins = (preds * BINS).long().clamp(0, BINS - 1)
    bins = bins + torch.arange(labels, device=bins.device) * BINS
    positive = labelled & (target > 0.5)
    size = labels * BINS
    counts = [
        torch.bincount(bins[cells], minlength=size) for cells in (positive, labelled & ~positive)
    ]
    return counts[0].view(labels, BINS), counts[1].view(labels, BINS)


def outcomes(positives: Tensor, negatives: Tensor) -> Tensor:
    """Return ``(L, 4)`` counts at a threshold of 0.5: TP, FN, TN and FP."""
    half = BINS // 2
    return torch.stack(
        [
            positives[:, half:].sum(1),
            positives[:, :half].sum(1),
            negatives[:, :half].sum(1),
            negatives[:, half:].sum(1),
        ],
        dim=1,
    )


def average_precision(positives: Tensor, negatives: Tensor) -> Tensor:
    """Sum of precision times gain in recall, from the highest bin down; ``(L,)``."""
    # float32 holds each count exactly up to 2**24; beyond, their ratio is good to 1e-7.
    hits = positives.flip(1).cumsum(1).float()
    shown = hits + negatives.flip(1).cumsum(1)
    precision = hits / shown.clamp(min=1)
    gains = positives.flip(1) / positives.sum(1, keepdim=True)
    return (precision * gains).sum(1)
