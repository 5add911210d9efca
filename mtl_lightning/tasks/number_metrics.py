"""Metrics of numbers with an interval, whose states are sums."""

from collections.abc import Mapping, Sequence

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


class NumberMetrics(Metric):
    """Errors and R2 of several numbers, each of which may be missing on its own.

    Values without a name are means over the numbers with a label. Those of ``mae``, ``rmse`` and
    ``interval_width`` say something if all have one unit.

    Args:
        outputs: The names of the L numbers.
        intervals: Whether answers have the ends ``low`` and ``high`` of an interval.
    """

    full_state_update = False
    higher_is_better = True
    rows: Tensor
    inside: Tensor
    value: Tensor
    square: Tensor
    residual: Tensor
    absolute: Tensor
    width: Tensor

    def __init__(self, outputs: Sequence[str], intervals: bool = False) -> None:
        super().__init__()
        self.outputs = list(outputs)
        self.measures = ["mae", "rmse", "r2", *(IntervalMetrics.names if intervals else ())]
        number = len(self.outputs)
        for name in ("rows", "inside"):
            self.add_state(name, torch.zeros(number, dtype=torch.long), dist_reduce_fx="sum")
        for name in ("value", "square", "residual", "absolute", "width"):
            zeros = torch.zeros(number, dtype=torch.float64)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    @property
    def names(self) -> list[str]:
        """The names of the values that `compute` returns."""
        each = [f"{m}/{name}" for m in (*self.measures, "n_labelled") for name in self.outputs]
        return [*self.measures, *each]

    def update(
        self, preds: Mapping[str, Tensor], target: Tensor, labelled: Tensor, origin: Tensor
    ) -> None:
        """Add ``(B, L)`` answers and targets in the label's unit, and the mask of labels.

        Args:
            preds: ``value``, and perhaps ``low`` and ``high``.
            target: The targets; any number where there is no label.
            labelled: bool.
            origin: ``(L,)``, numbers near the targets, the same in each call: their squares are
                sums of distances from them, and do not cancel.
        """

        def total(values: Tensor) -> Tensor:
            return torch.where(labelled, values, torch.zeros_like(values)).sum(0)

        wide = target.to(self.value.dtype)
        errors = preds["value"].to(wide) - wide
        centred = wide - origin.to(wide)
        self.rows += labelled.sum(0)
        self.value += total(centred)
        self.square += total(centred.square())
        self.residual += total(errors.square())
        self.absolute += total(errors.abs())
        if "low" in preds:
            low, high = preds["low"].to(wide), preds["high"].to(wide)
            self.inside += ((low <= wide) & (wide <= high) & labelled).sum(0)
            self.width += total(high - low)

    def compute(self) -> dict[str, Tensor]:
        """Return the means and the values of each number; NaN where one is undefined."""
        total = self.square - self.value.square() / self.rows
        undefined = (self.rows < 2) | (total <= 1e-12 * self.square)
        values = {
            "mae": self.absolute / self.rows,
            "rmse": (self.residual / self.rows).sqrt(),
            "r2": torch.where(undefined, torch.nan, 1 - self.residual / total),
            "coverage": self.inside / self.rows,
            "interval_width": self.width / self.rows,
        }
        result = {name: values[name][~values[name].isnan()].mean() for name in self.measures}
        for name in self.measures:
            for output, value in zip(self.outputs, values[name], strict=True):
                result[f"{name}/{output}"] = value
        for output, count in zip(self.outputs, self.rows, strict=True):
            result[f"n_labelled/{output}"] = count
        return result
