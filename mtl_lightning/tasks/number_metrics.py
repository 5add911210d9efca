"""Metrics of numbers with an interval, whose states are sums."""

import torch
from torch import Tensor
from torchmetrics import Metric


class IntervalMetrics(Metric):
    """Share of labels within their predicted interval, and its mean width.

    A good interval has the coverage that it was made for, and is no wider than necessary.
    """

    full_state_update = False
    names = ("coverage", "interval_width")
    inside: Tensor
    rows: Tensor
    width: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("inside", "rows"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("width", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor, low: Tensor, high: Tensor) -> None:
        """Add ``(B,)`` targets with the ends of their intervals; the predictions are not read."""
        del preds
        self.inside += ((low <= target) & (target <= high)).sum()
        self.rows += target.numel()
        self.width += (high - low).to(self.width.dtype).sum()

    def compute(self) -> dict[str, Tensor]:
        """Return ``coverage``, and ``interval_width`` in the label's unit."""
        return {"coverage": self.inside / self.rows, "interval_width": self.width / self.rows}
