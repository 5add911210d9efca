"""One number for each image."""

import math
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection

from mtl_lightning.models.heads import HeadOptions
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.base import Encoded, Task, if_missing
from mtl_lightning.tasks.cells import decimal_point, number, outlying_codes
from mtl_lightning.tasks.guess import Guess
from mtl_lightning.tasks.metrics import R2
from mtl_lightning.tasks.plot_data import ScatterPlotData


class Regression(Task):
    """A number, learned in units of the training labels' standard deviation.

    The head's output is standardised: 0 is the mean of the training labels, 1 is one standard
    deviation above it. So a task in grams and a task in years pull equally on what they share. The
    two statistics are kept in the checkpoint; metrics and predictions are in the label's own unit.

    Args:
        loss: ``mse``, ``l1`` or ``huber``, on standardised values.
        huber_delta: Where Huber's loss turns from quadratic to linear, in standard deviations.
        weight: Factor of this task's loss in the sum over tasks.
        head: Settings of this task's head; the model's apply where it has none.
    """

    primary: ClassVar[str] = "r2"
    compares_views: ClassVar[bool] = True
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        loss: Literal["mse", "l1", "huber"] = "mse",
        huber_delta: float = 1.0,
        weight: float = 1.0,
        head: HeadOptions | None = None,
    ) -> None:
        super().__init__(weight, head)
        if not huber_delta > 0:
            raise UserError(f"huber_delta should be above 0. Found {huber_delta}")
        self.loss_name = loss
        self.huber_delta = huber_delta
        # In float64, as the labels: float32 has seven digits, and a time stamp has ten.
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("std", torch.ones((), dtype=torch.float64))

    def encode(self, cells: NDArray[np.object_]) -> Encoded:
        """Read each cell as a finite number: float64 targets, ``(N,)`` masks."""
        labelled = pd.notna(cells)
        values = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce")
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        # What overflows float32 is bad, as inf is: no square of it overflows float64.
        good = labelled & (np.abs(numbers) <= np.finfo(np.float32).max)
        return Encoded(np.where(good, numbers, 0.0), good, labelled & ~good)

    def meaning(self, cell: str, field: str) -> Hashable:
        """Return the number, if the cell is one."""
        del field
        value = number(cell)
        return cell if value is None else value

    def expected(self, cell: str) -> str:
        """Ask for a finite number, with a hint if a comma stands for the decimal point."""
        comma = decimal_point(cell) != cell
        hint = ' (with a decimal point; or set `decimal: ","` in the source)'
        hint = hint if comma else if_missing(cell)
        return f"a finite number{hint}"

    def fit_statistics(self, targets: Tensor, labelled: Tensor) -> None:
        """Compute mean and standard deviation of the training labels."""
        del labelled  # a row that has no label is not passed here
        values = targets.double()
        if bool((values == values[0]).all()):  # whose deviation may be rounded to above 0
            raise UserError(
                f"every training label is {values[0].item():.15g}; there is nothing to learn"
            )
        std = values.std(correction=0)
        self.mean.copy_(values.mean())
        self.std.copy_(std)

    def remarks(
        self, targets: NDArray[np.generic], labelled: NDArray[np.bool_]
    ) -> list[tuple[str, str]]:
        """Name a number that may stand for "not labelled": -1 where all others are positive."""
        numbers = targets[labelled].astype(np.float64)
        codes = outlying_codes(np.unique(numbers).tolist())
        others = numbers[~np.isin(numbers, codes)]
        return [
            (
                f"{(numbers == code).sum():,} of {len(numbers):,} training labels are {code:g}, "
                f"the others are {others.min():g} to {others.max():g}",
                f"if it means not labelled, set `missing: [{code:g}]` in the source",
            )
            for code in codes
        ]

    @property
    def num_outputs(self) -> int:
        """One standardised number."""
        return 1

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss per row: ``(B, 1)`` outputs, ``(B,)`` targets in the label's unit -> ``(B,)``."""
        outputs = outputs.squeeze(1)
        # Rounded to the network's precision last: what is close to the mean keeps its digits.
        standard = ((targets.to(self.mean.dtype) - self.mean) / self.std).to(outputs.dtype)
        if self.loss_name == "mse":
            return F.mse_loss(outputs, standard, reduction="none")
        if self.loss_name == "l1":
            return F.l1_loss(outputs, standard, reduction="none")
        return F.huber_loss(outputs, standard, reduction="none", delta=self.huber_delta)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return ``value``, ``(B,)`` in the label's own unit."""
        outputs = outputs.squeeze(1).to(torch.promote_types(outputs.dtype, self.mean.dtype))
        return {"value": outputs * self.std + self.mean}

    def metrics(self) -> MetricCollection:
        """Mean absolute error, root mean squared error (label's unit), and R2."""
        return MetricCollection(
            {
                "mae": MeanAbsoluteError().set_dtype(torch.float64),
                "rmse": MeanSquaredError(squared=False).set_dtype(torch.float64),
                "r2": R2(),
            },
            compute_groups=False,
        )

    def update(
        self,
        metrics: MetricCollection,
        answers: Mapping[str, Tensor],
        targets: Tensor,
        labelled: Tensor,
    ) -> None:
        """Update the metrics with predictions and targets in the label's own unit."""
        del labelled
        r2 = cast("R2", metrics["r2"])  # the primary metric, which is always there
        dtype = r2.residual.dtype  # float32 on Apple's GPUs, else float64
        # Only the metric that asks for the origin is given it.
        metrics.update(answers["value"].to(dtype), targets.to(dtype), origin=self.mean)

    def columns(self, answers: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return the number in the label's own unit, without digits that the network has not."""
        digits = 7 - math.floor(math.log10(max(self.std.item(), 1e-300)))
        return {"": np.round(answers["value"], digits)}

    def guess(self, outputs: Tensor, others: Tensor | None, soft: bool) -> Guess:
        """Guess the number, with a confidence that falls as two views disagree; see `Task.guess`.

        It is exp(-d^2) for a difference of d standard deviations of the training labels.
        """
        del soft
        differences = outputs - (outputs if others is None else others)
        confidence = torch.exp(-differences.squeeze(1).float().square())
        return Guess(self.predict(outputs)["value"], confidence, None)

    def plot_data(self) -> ScatterPlotData:
        """Collect predictions and labels."""
        return ScatterPlotData()
