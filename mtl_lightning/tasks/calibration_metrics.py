"""Metrics of calibrated answers, whose states are sums."""

from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from mtl_lightning.tasks.calibratable import Judged
from mtl_lightning.tasks.metrics import CalibrationError


class JudgedError(CalibrationError):
    """Expected calibration error of answers, with or without their calibration.

    Args:
        of: The confidence: with the calibration, or the one ``before``.
    """

    def __init__(self, of: Literal["confidence", "before"]) -> None:
        super().__init__()
        self.of = of

    def update(self, *answers: object, judged: Judged) -> None:  # type: ignore[override]
        """Add answers that are compared with their labels; others are not read."""
        del answers
        self.add(getattr(judged, self.of), judged.right)


class SetMetrics(Metric):
    """Share of labels that are in the set of classes, and the mean number of classes in it."""

    full_state_update = False
    names = ("coverage", "set_size")
    rows: Tensor
    covered: Tensor
    classes: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("rows", "covered", "classes"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, *answers: object, judged: Judged) -> None:
        """Add answers with sets; others are not read."""
        del answers
        assert judged.covered is not None
        assert judged.size is not None
        self.rows += judged.covered.numel()
        self.covered += judged.covered.sum()
        self.classes += judged.size.sum()

    def compute(self) -> dict[str, Tensor]:
        """Return ``coverage`` and ``set_size``."""
        return {"coverage": self.covered / self.rows, "set_size": self.classes / self.rows}
