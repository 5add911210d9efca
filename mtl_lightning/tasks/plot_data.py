"""Collecting the data of a task's plot over an evaluated split.

The collectors are metrics with states of fixed size that are exact over ranks, so a plot covers the
whole split, however many ranks there are.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from mtl_lightning.tasks.float64 import has_float64
from mtl_lightning.tasks.label_metrics import BINS, histograms
from mtl_lightning.tasks.plot_records import (
    ConfusionCounts,
    LabelCurves,
    PlotRecord,
    ScatterSample,
    ScatterSamples,
)


class PlotData(Metric):
    """Collects the data of one task's plot over one split."""

    full_state_update = False

    def see(self, images: Tensor) -> None:
        """Take the ``(B, 3, height, width)`` images of the batch that `update` is given next.

        By default they are not needed.
        """

    @abstractmethod
    def update(
        self, answers: Mapping[str, Tensor], targets: Tensor, labelled: Tensor, rows: Tensor
    ) -> None:
        """Add a batch; only what ``labelled`` marks may be read.

        Args:
            answers: The result of ``Task.predict``.
            targets: ``(B, ...)``.
            labelled: bool, the shape of what ``Task.loss`` returns.
            rows: ``(B,)`` int64, a number for each image that is the same on all ranks.
        """

    @abstractmethod
    def compute(self) -> PlotRecord:
        """Return what all ranks have collected."""

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any) -> "PlotData":
        if not has_float64(fn):
            self.set_dtype(torch.float32)
        super()._apply(fn, *args)
        return self


class ConfusionPlotData(PlotData):
    """Collects a confusion matrix.

    Args:
        classes: The K class names, in the order of the outputs.
    """

    matrix: Tensor

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = list(classes)
        k = len(self.classes)
        self.add_state("matrix", torch.zeros(k, k, dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self, answers: Mapping[str, Tensor], targets: Tensor, labelled: Tensor, rows: Tensor
    ) -> None:
        """Add answers, ``(B,)`` int64 classes or ``(B, K)`` distributions, and ``(B,)`` masks."""
        del rows
        k = len(self.classes)
        if targets.is_floating_point():  # distributions: the most probable class is the label
            targets = targets.argmax(1)
        cells = targets[labelled] * k + self.chosen(answers)[labelled]
        self.matrix += torch.bincount(cells, minlength=k * k).view(k, k)

    def chosen(self, answers: Mapping[str, Tensor]) -> Tensor:
        """Return the positions of the predicted classes, ``(B,)`` int64."""
        return answers["probabilities"].argmax(1)

    def compute(self) -> ConfusionCounts:
        """Return the counts over all ranks."""
        return ConfusionCounts(self.classes, self.matrix.cpu().numpy())


class LabelPlotData(PlotData):
    """Collects the probability histograms of each of many yes/no labels.

    Args:
        labels: The L names, in the order of the outputs.
    """

    positives: Tensor
    negatives: Tensor

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        self.labels = list(labels)
        for name in ("positives", "negatives"):
            zeros = torch.zeros(len(self.labels), BINS, dtype=torch.long)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    def update(
        self, answers: Mapping[str, Tensor], targets: Tensor, labelled: Tensor, rows: Tensor
    ) -> None:
        """Add ``(B, L)`` probabilities, targets (0 or 1) and masks."""
        del rows
        positives, negatives = histograms(answers["probabilities"], targets, labelled)
        self.positives += positives
        self.negatives += negatives

    def compute(self) -> LabelCurves:
        """Return the histograms over all ranks."""
        return LabelCurves(self.labels, self.positives.cpu().numpy(), self.negatives.cpu().numpy())


class ScatterPlotData(PlotData):
    """Collects predictions and labels of all rows, or of a random sample of ``limit`` rows.

    A row's key is a hash of its number. The rows with the lowest keys are kept (bottom-k sampling,
    Cohen and Kaplan 2007), first on each rank and then over all ranks. So memory is bounded, and
    the sample is the same on one rank and on many. Numbers are float64: time stamps have more
    digits than float32 holds.

    Args:
        limit: The largest number of rows to keep.
        intervals: Whether answers have the ends ``low`` and ``high`` of an interval.
        log: Whether ratios matter, not differences.
    """

    keys: Tensor
    points: Tensor
    seen: Tensor

    def __init__(self, limit: int = 4096, intervals: bool = False, log: bool = False) -> None:
        super().__init__()
        self.limit = limit
        self.log = log
        self.answers = ("value", "low", "high") if intervals else ("value",)
        free = torch.full((limit,), torch.iinfo(torch.long).max)
        # Stacked over ranks, not reduced, since a key belongs to its point.
        self.add_state("keys", free, dist_reduce_fx=None)
        points = torch.zeros(limit, 1 + len(self.answers), dtype=torch.float64)
        self.add_state("points", points, dist_reduce_fx=None)
        self.add_state("seen", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self, answers: Mapping[str, Tensor], targets: Tensor, labelled: Tensor, rows: Tensor
    ) -> None:
        """Add ``(B,)`` values and targets in the label's unit, and ``(B,)`` masks."""
        columns = [targets, *(answers[name] for name in self.answers)]
        points = torch.stack([each[labelled].to(self.points) for each in columns], 1)
        self.keys, self.points = _lowest(
            torch.cat([self.keys, hashed(rows[labelled])]),
            torch.cat([self.points, points]),
            self.limit,
        )
        self.seen += labelled.sum()

    def compute(self) -> ScatterSample:
        """Return the sample over all ranks."""
        seen = int(self.seen)
        points = self.points.flatten(0, -2)
        _, points = _lowest(self.keys.flatten(), points, min(seen, self.limit))
        labels, predictions, *ends = points.cpu().double().numpy().T
        low, high = ends or (None, None)
        return ScatterSample(predictions, labels, seen, low, high, self.log)


class ScattersPlotData(ScatterPlotData):
    """Collects predictions and labels of several numbers, of a random sample of rows.

    Args:
        outputs: The names of the L numbers.
        log: Whether ratios matter, not differences.
        limit: The largest number of rows to keep, by default such that a sample has 4096 numbers.
    """

    def __init__(self, outputs: Sequence[str], log: bool = False, limit: int | None = None) -> None:
        super().__init__(limit or max(64, 4096 // len(outputs)), log=log)
        self.outputs = list(outputs)
        points = torch.zeros(self.limit, len(self.outputs), 2, dtype=torch.float64)
        self.add_state("points", points, dist_reduce_fx=None)

    def update(
        self, answers: Mapping[str, Tensor], targets: Tensor, labelled: Tensor, rows: Tensor
    ) -> None:
        """Add ``(B, L)`` values, targets in the label's unit, and masks."""
        some = labelled.any(1)
        missing = torch.full_like(self.points[:1, 0, 0], torch.nan)
        columns = [targets.to(self.points), answers["value"].to(self.points)]
        points = torch.stack([torch.where(labelled, each, missing) for each in columns], -1)
        self.keys, self.points = _lowest(
            torch.cat([self.keys, hashed(rows[some])]),
            torch.cat([self.points, points[some]]),
            self.limit,
        )
        self.seen += some.sum()

    def compute(self) -> ScatterSamples:  # type: ignore[override]  # of several numbers
        """Return the sample over all ranks."""
        seen = int(self.seen)
        points = self.points.view(-1, len(self.outputs), 2)
        _, points = _lowest(self.keys.flatten(), points, min(seen, self.limit))
        labels, predictions = points.cpu().double().unbind(-1)
        return ScatterSamples(self.outputs, predictions.numpy(), labels.numpy(), seen, self.log)


def hashed(rows: Tensor) -> Tensor:
    """Mix ``(n,)`` int64 numbers, one to one (after splitmix64, Steele et al. 2014)."""
    # As signed numbers: -0x40A7B892E31B1A47 is 0xBF58476D1CE4E5B9, and so on.
    mixed = (rows ^ (rows >> 30)) * -0x40A7B892E31B1A47
    mixed = (mixed ^ (mixed >> 27)) * -0x6B2FB644ECCEEE15
    return mixed ^ (mixed >> 31)


def _lowest(keys: Tensor, points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    keys, order = keys.sort(stable=True)
    return keys[:count], points[order[:count]]
