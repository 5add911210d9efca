"""What a task collects over an evaluated split to be drawn at its end.

A picture is a metric: its states are of a fixed size and can be brought together over ranks in
any order, so that the picture is of the whole split, however many ranks there are.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from mtl_lightning.tasks.label_metrics import (
    BINS,
    average_precision,
    histograms,
    outcomes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Picture(Metric):
    """Collects what is drawn of one task over one split."""

    full_state_update = False

    @abstractmethod
    def update(self, outputs: Tensor, targets: Tensor, labelled: Tensor, rows: Tensor) -> None:
        """Add a batch; only what ``labelled`` marks may be read.

        Args:
            outputs: ``(B, num_outputs)``, as the head gives them.
            targets: ``(B, ...)``.
            labelled: bool, the shape of what ``Task.loss`` returns.
            rows: ``(B,)`` int64, a number for each image that is the same on any rank.
        """

    @abstractmethod
    def compute(self) -> Any:
        """Return what all ranks have collected."""

    @abstractmethod
    def draw(self, collected: Any, title: str, subtitle: str) -> "Figure":
        """Draw what :meth:`compute` returned (import matplotlib here, not before)."""


class ConfusionPicture(Picture):
    """A confusion matrix.

    Args:
        classes: The K class names, in the order of the outputs.
    """

    matrix: Tensor

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = list(classes)
        k = len(self.classes)
        self.add_state("matrix", torch.zeros(k, k, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor, labelled: Tensor, rows: Tensor) -> None:
        """Take ``(B, K)`` logits, ``(B,)`` int64 classes and ``(B,)`` masks."""
        del rows
        k = len(self.classes)
        if targets.is_floating_point():  # distributions: the most probable class is the label
            targets = targets.argmax(1)
        cells = targets[labelled] * k + outputs[labelled].argmax(1)
        self.matrix += torch.bincount(cells, minlength=k * k).view(k, k)

    def compute(self) -> NDArray[np.int64]:
        """Return ``(K, K)`` counts, a row for each label, a column for each answer."""
        matrix: NDArray[np.int64] = self.matrix.cpu().numpy()
        return matrix

    def draw(self, collected: NDArray[np.int64], title: str, subtitle: str) -> "Figure":
        """Draw it with shares of the rows as colours."""
        from mtl_lightning.reports.plots.confusion import confusion

        return confusion(collected, self.classes, title, subtitle)


class LabelsPicture(Picture):
    """How each of many yes/no labels does, from the histograms that its metrics are made of.

    Args:
        labels: The L names, in the order of the outputs.
        probabilities: ``(B, L)`` outputs to probabilities.
    """

    positives: Tensor
    negatives: Tensor

    def __init__(self, labels: Sequence[str], probabilities: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.probabilities = probabilities
        self.labels = list(labels)
        for name in ("positives", "negatives"):
            zeros = torch.zeros(len(self.labels), BINS, dtype=torch.long)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor, labelled: Tensor, rows: Tensor) -> None:
        """Take ``(B, L)`` logits, targets (0 or 1) and masks."""
        del rows
        positives, negatives = histograms(self.probabilities(outputs), targets, labelled)
        self.positives += positives
        self.negatives += negatives

    def compute(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return ``(L,)`` average precisions, and the ``(L, 4)`` counts of `outcomes`."""
        precision = average_precision(self.positives, self.negatives)
        return precision.cpu().numpy(), outcomes(self.positives, self.negatives).cpu().numpy()

    def draw(
        self, collected: tuple[NDArray[np.float32], NDArray[np.int64]], title: str, subtitle: str
    ) -> "Figure":
        """Draw average precision against chance, and the recall of yes and of no."""
        from mtl_lightning.reports.plots.labels import labels_chart

        return labels_chart(self.labels, *collected, title, subtitle)


class ScatterPicture(Picture):
    """Predictions against labels: all rows, or from ``limit`` on as many drawn by lot.

    The lot is a hash of the row's number, and the lowest are kept (bottom-k sampling, Cohen and
    Kaplan 2007): of each rank, then of these, which are the lowest of all. So memory is bounded,
    and the same rows are drawn on one rank and on many.

    Args:
        in_unit: ``(B, num_outputs)`` outputs to ``(B,)`` predictions in the label's unit.
        limit: How many rows are drawn at most.
    """

    keys: Tensor
    points: Tensor
    seen: Tensor

    def __init__(self, in_unit: Callable[[Tensor], Tensor], limit: int = 4096) -> None:
        super().__init__()
        self.in_unit = in_unit
        self.limit = limit
        free = torch.full((limit,), torch.iinfo(torch.long).max)
        # Stacked over ranks, not reduced: keys and points are of use only together.
        self.add_state("keys", free, dist_reduce_fx=None)
        self.add_state("points", torch.zeros(limit, 2), dist_reduce_fx=None)
        self.add_state("seen", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor, labelled: Tensor, rows: Tensor) -> None:
        """Take ``(B, 1)`` outputs, ``(B,)`` targets in the label's unit and ``(B,)`` masks."""
        predictions = self.in_unit(outputs[labelled])
        points = torch.stack([predictions, targets[labelled].to(predictions)], dim=1)
        self.keys, self.points = _lowest(
            torch.cat([self.keys, _hashed(rows[labelled])]),
            torch.cat([self.points, points.to(self.points)]),
            self.limit,
        )
        self.seen += labelled.sum()

    def compute(self) -> tuple[NDArray[np.float32], int]:
        """Return ``(n, 2)`` predictions and labels, and how many rows they were drawn from."""
        seen = int(self.seen)
        _, points = _lowest(self.keys.flatten(), self.points.view(-1, 2), min(seen, self.limit))
        return points.cpu().numpy(), seen

    def draw(
        self, collected: tuple[NDArray[np.float32], int], title: str, subtitle: str
    ) -> "Figure":
        """Draw them with the diagonal, and their residuals."""
        from mtl_lightning.reports.plots.scatter import scatter

        points, seen = collected
        if len(points) < seen:
            subtitle += f" · {len(points):,} of {seen:,} drawn, chosen by lot"
        return scatter(points[:, 0], points[:, 1], title, subtitle)


def _hashed(rows: Tensor) -> Tensor:
    """Mix ``(n,)`` int64 numbers, one to one (after splitmix64, Steele et al. 2014)."""
    # As signed numbers: -0x40A7B892E31B1A47 is 0xBF58476D1CE4E5B9, and so on.
    mixed = (rows ^ (rows >> 30)) * -0x40A7B892E31B1A47
    mixed = (mixed ^ (mixed >> 27)) * -0x6B2FB644ECCEEE15
    return mixed ^ (mixed >> 31)


def _lowest(keys: Tensor, points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    keys, order = keys.sort(stable=True)
    return keys[:count], points[order[:count]]
