"""Metrics of many yes/no labels, each of which may be missing on its own."""

import torch
from torch import Tensor
from torchmetrics import Metric

BINS = 1000
"""Fixed bins of the probability; area metrics are exact over these."""
MEASURES = ("ap", "f1", "accuracy", "ma")
"""What is measured of each label."""


class LabelMetrics(Metric):
    """Per label and in the mean: average precision, F1, accuracy, and mA.

    The states are two histograms of the probability for each label, of its positives and of its
    negatives: sums, so that ranks add up and no prediction is kept. Average precision takes the
    rows of one of the 1000 bins together; the others are at a threshold of 0.5. A label whose
    value is undefined has no part in a mean: one without a labelled row; for average precision
    without a positive; for mA without a positive or without a negative; for F1 with neither a
    positive nor a false alarm.

    Args:
        labels: Their names, in the order of the columns.
    """

    full_state_update = False
    positives: Tensor
    negatives: Tensor

    def __init__(self, labels: list[str]) -> None:
        super().__init__()
        self.labels = labels
        for name in ("positives", "negatives"):
            zeros = torch.zeros(len(labels), BINS, dtype=torch.long)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    @property
    def names(self) -> list[str]:
        """What `compute` gives, by name."""
        each = [f"{name}/{label}" for name in (*MEASURES, "n_labelled") for label in self.labels]
        return ["mean_ap", *MEASURES[1:], *each]

    def update(self, preds: Tensor, target: Tensor, labelled: Tensor) -> None:
        """Take ``(B, L)`` probabilities, targets (0 or 1) and the mask of what is labelled."""
        bins = (preds * BINS).long().clamp(0, BINS - 1)
        bins = bins + torch.arange(len(self.labels), device=bins.device) * BINS
        positive = labelled & (target > 0.5)
        size = len(self.labels) * BINS
        for state, cells in ((self.positives, positive), (self.negatives, labelled & ~positive)):
            state += torch.bincount(bins[cells], minlength=size).view_as(state)

    def compute(self) -> dict[str, Tensor]:
        """Return ``mean_ap``, ``f1``, ``accuracy``, ``ma``, and each of them by label.

        mA is the mean of the recall of positives and the recall of negatives, in the mean over
        labels (Deng et al. 2014, "Pedestrian attribute recognition at far distance", eq. 6).
        """
        positive, negative = self.positives.sum(1), self.negatives.sum(1)
        hit, rejected = self.positives[:, BINS // 2 :].sum(1), self.negatives[:, : BINS // 2].sum(1)
        false_alarms = negative - rejected
        values = {
            "ap": self._average_precision(),
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

    def _average_precision(self) -> Tensor:
        """Sum of precision times gain in recall, from the highest bin down; ``(L,)``."""
        # float32 holds each count exactly up to 2**24; a ratio of them is good to 1e-7 beyond.
        hits = self.positives.flip(1).cumsum(1).float()
        shown = hits + self.negatives.flip(1).cumsum(1)
        precision = hits / shown.clamp(min=1)
        gains = self.positives.flip(1) / self.positives.sum(1, keepdim=True)
        return (precision * gains).sum(1)
