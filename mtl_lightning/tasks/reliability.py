"""How often answers are right, by their confidence: the data of a reliability diagram."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_lightning.tasks.base import Task
from mtl_lightning.tasks.metrics import CONFIDENCE_BINS, confidence_bins
from mtl_lightning.tasks.plot_data import PlotData
from mtl_lightning.tasks.plot_records import PlotRecord


@dataclass(eq=False)
class ReliabilityBins(PlotRecord):
    """Answers in bins of their confidence, with the calibration and without.

    Attributes:
        rows: ``(2, CONFIDENCE_BINS)`` the answers in each bin.
        hits: Those that are right.
        confidence: The sum of their confidence.
    """

    rows: NDArray[np.int64]
    hits: NDArray[np.int64]
    confidence: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Return lists."""
        return {name: values.tolist() for name, values in vars(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ReliabilityBins":
        """See `PlotRecord.from_json`."""
        shape = 2, CONFIDENCE_BINS
        return cls(
            np.array(values["rows"], dtype=np.int64).reshape(shape),
            np.array(values["hits"], dtype=np.int64).reshape(shape),
            np.array(values["confidence"], dtype=np.float64).reshape(shape),
        )


class ReliabilityData(PlotData):
    """Collects the bins of a task that is calibrated.

    Args:
        task: The task, whose answers are those of `Task.measured`.
    """

    rows: Tensor
    hits: Tensor
    confidence: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._judge = task.judge
        for name in ("rows", "hits"):
            zeros = torch.zeros(2, CONFIDENCE_BINS, dtype=torch.long)
            self.add_state(name, zeros, dist_reduce_fx="sum")
        sums = torch.zeros(2, CONFIDENCE_BINS, dtype=torch.float64)
        self.add_state("confidence", sums, dist_reduce_fx="sum")

    def update(
        self, answers: Mapping[str, Tensor], targets: Tensor, labelled: Tensor, rows: Tensor
    ) -> None:
        """Add a batch."""
        del rows
        judged = self._judge(answers, targets, labelled)
        if judged is None:  # its answers have no confidence
            return
        for place, confidence in enumerate((judged.confidence, judged.before)):
            found = confidence_bins(confidence, judged.right, self.confidence.dtype)
            self.rows[place] += found[0]
            self.hits[place] += found[1]
            self.confidence[place] += found[2]

    def compute(self) -> ReliabilityBins:
        """Return what all ranks have collected."""
        return ReliabilityBins(
            self.rows.cpu().numpy(), self.hits.cpu().numpy(), self.confidence.cpu().double().numpy()
        )


def reliability_data(task: Task) -> ReliabilityData | None:
    """Return what collects a task's diagram; None if it is not calibrated."""
    return None if task.calibration is None else ReliabilityData(task)
