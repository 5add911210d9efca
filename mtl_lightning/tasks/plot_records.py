"""The data behind a task's plot: plain typed records that JSON can hold.

``reports/plots`` draws them. A kind of task with a record of its own adds a subclass of
`PlotRecord` next to the task and registers its drawing with ``mtl_lightning.reports.plots.draw``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtl_lightning.tasks.label_metrics import BINS, average_precision, outcomes


class PlotRecord(ABC):
    """The data collected for one task's plot over one evaluated split."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""

    @classmethod
    @abstractmethod
    def from_json(cls, values: Mapping[str, Any]) -> "PlotRecord":
        """Return the record that was written as these values.

        Raises:
            KeyError, TypeError, ValueError: If the values are damaged.
        """


def record_to_json(record: PlotRecord) -> dict[str, Any]:
    """Return a record as JSON values, including its class."""
    return {"class_path": _class_path(type(record)), **record.to_json()}


def record_from_json(values: Mapping[str, Any]) -> PlotRecord:
    """Return the record that `record_to_json` wrote; `UnknownRecord` if its class is not imported.

    Nothing is imported, since the file may not be trusted.

    Raises:
        KeyError, TypeError, ValueError: If the values are damaged.
    """
    waiting = PlotRecord.__subclasses__()
    while waiting:
        record = waiting.pop()
        if _class_path(record) == values["class_path"]:
            return record.from_json(values)
        waiting += record.__subclasses__()
    return UnknownRecord.from_json(values)


def _class_path(record: type[PlotRecord]) -> str:
    return f"{record.__module__}.{record.__qualname__}"


@dataclass
class UnknownRecord(PlotRecord):
    """A record of a class that this process has not imported, kept as it was read.

    Attributes:
        values: The values that `record_to_json` wrote.
    """

    values: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the values as they were read, including the name of the class."""
        return self.values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "UnknownRecord":
        """See `PlotRecord.from_json`."""
        return cls({**values, "class_path": str(values["class_path"])})


# Not frozen: torchmetrics copies what a metric computes field by field.
@dataclass(eq=False)
class ConfusionCounts(PlotRecord):
    """How often each class was predicted for each label.

    Attributes:
        classes: K names.
        counts: ``(K, K)``, a row for each label, a column for each prediction.
    """

    classes: list[str]
    counts: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """Return the names and the nonzero cells: at most one for each labelled row."""
        return {"classes": self.classes, "counts": _sparse(self.counts)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ConfusionCounts":
        """See `PlotRecord.from_json`."""
        classes = [str(name) for name in values["classes"]]
        return cls(classes, _dense(values["counts"], (len(classes), len(classes))))


@dataclass(eq=False)
class LabelCurves(PlotRecord):
    """Histograms of the probability of each yes/no label, which give all its curves.

    Attributes:
        labels: L names.
        positives: ``(L, BINS)`` counts of the images labelled yes, by probability.
        negatives: ``(L, BINS)`` counts of the images labelled no.
    """

    labels: list[str]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]

    def average_precision(self) -> NDArray[np.float32]:
        """Return ``(L,)``, NaN without a positive."""
        precision: NDArray[np.float32] = average_precision(*self._histograms()).numpy()
        return precision

    def outcomes(self) -> NDArray[np.int64]:
        """Return ``(L, 4)`` counts at a threshold of 0.5; see `label_metrics.outcomes`."""
        counts: NDArray[np.int64] = outcomes(*self._histograms()).numpy()
        return counts

    def _histograms(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.positives), torch.from_numpy(self.negatives)

    def to_json(self) -> dict[str, Any]:
        """Return the names and the bins that are not empty."""
        return {
            "labels": self.labels,
            "bins": BINS,
            "positives": _sparse(self.positives),
            "negatives": _sparse(self.negatives),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "LabelCurves":
        """See `PlotRecord.from_json`."""
        labels = [str(name) for name in values["labels"]]
        if values["bins"] != BINS:
            raise ValueError(f"bins should be {BINS}. Found {values['bins']}")
        shape = len(labels), BINS
        return cls(labels, *(_dense(values[key], shape) for key in ("positives", "negatives")))


@dataclass(eq=False)
class ScatterSample(PlotRecord):
    """Predictions and labels of a sample of the rows, in the label's own unit.

    Attributes:
        predictions: ``(n,)``.
        labels: ``(n,)``.
        n_labelled: Number of labelled rows that the sample was taken from.
        low: ``(n,)``, the lower ends of the predictions' intervals, if they have any.
        high: ``(n,)``, the upper ends.
        log: Whether ratios matter, not differences.
    """

    predictions: NDArray[np.float64]
    labels: NDArray[np.float64]
    n_labelled: int
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    log: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the numbers, null where they are not finite."""
        columns = {"predictions": self.predictions, "labels": self.labels}
        if self.low is not None and self.high is not None:
            columns |= {"low": self.low, "high": self.high}
        return {
            **{name: _numbers(column) for name, column in columns.items()},
            "n_labelled": self.n_labelled,
            **({"log": True} if self.log else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ScatterSample":
        """See `PlotRecord.from_json`; null becomes NaN."""
        names = ["predictions", "labels", *(["low", "high"] if "low" in values else [])]
        predictions, labels, *ends = (np.array(values[key], dtype=np.float64) for key in names)
        if predictions.ndim != 1 or any(e.shape != predictions.shape for e in (labels, *ends)):
            raise ValueError("predictions and labels should be lists of one length")
        low, high = ends or (None, None)
        count, log = int(values["n_labelled"]), bool(values.get("log"))
        return cls(predictions, labels, count, low, high, log)


@dataclass(eq=False)
class ScatterSamples(PlotRecord):
    """Predictions and labels of several numbers, of a sample of the rows with any label.

    Attributes:
        outputs: L names.
        predictions: ``(n, L)``, NaN where there is no label.
        labels: ``(n, L)``, likewise.
        n_labelled: Number of rows that the sample was taken from.
        log: Whether ratios matter, not differences.
    """

    outputs: list[str]
    predictions: NDArray[np.float64]
    labels: NDArray[np.float64]
    n_labelled: int
    log: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the numbers row by row, null where they are not finite."""
        return {
            "outputs": self.outputs,
            "predictions": [_numbers(row) for row in self.predictions],
            "labels": [_numbers(row) for row in self.labels],
            "n_labelled": self.n_labelled,
            "log": self.log,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ScatterSamples":
        """See `PlotRecord.from_json`; null becomes NaN."""
        outputs = [str(name) for name in values["outputs"]]
        predictions, labels = (
            np.array(values[key], dtype=np.float64).reshape(-1, len(outputs))
            for key in ("predictions", "labels")
        )
        if predictions.shape != labels.shape:
            raise ValueError("predictions and labels should be lists of one length")
        return cls(outputs, predictions, labels, int(values["n_labelled"]), bool(values["log"]))


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _sparse(counts: NDArray[np.int64]) -> dict[str, list[int]]:
    cells = np.flatnonzero(counts)
    return {"cells": cells.tolist(), "counts": counts.flat[cells].tolist()}


def _dense(values: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.int64]:
    counts = np.zeros(shape[0] * shape[1], dtype=np.int64)
    cells = np.array(values["cells"], dtype=np.int64)
    if len(cells) and not 0 <= cells.min() <= cells.max() < len(counts):
        raise ValueError(f"cells should be in 0..{len(counts) - 1}")
    counts[cells] = np.array(values["counts"], dtype=np.int64)
    return counts.reshape(shape)
