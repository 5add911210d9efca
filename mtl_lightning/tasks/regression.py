"""One number for each image."""

from collections.abc import Hashable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection

from mtl_lightning.models.heads import HeadOptions
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.base import Encoded, Task, if_missing
from mtl_lightning.tasks.calibration import Calibration, conformal_quantile
from mtl_lightning.tasks.cells import decimal_point, number, outlying_codes
from mtl_lightning.tasks.guess import Guess
from mtl_lightning.tasks.losses import beta_nll
from mtl_lightning.tasks.metrics import R2
from mtl_lightning.tasks.number_metrics import IntervalMetrics
from mtl_lightning.tasks.number_scale import NumberScale, Scale
from mtl_lightning.tasks.plot_data import ScatterPlotData
from mtl_lightning.tasks.reviewable import mean_of_labelled

LEAST_VARIANCE = 1e-6
"""The smallest predicted variance, relative to that of the training labels."""

NumberLoss = Literal["mse", "l1", "huber", "beta_nll"]


class Regression(Task):
    """A number, learned in units of the training labels' standard deviation.

    The head's output is standardised: 0 is the mean of the training labels, 1 is one standard
    deviation above it. So a task in grams and a task in years pull equally on what they share. The
    two statistics are kept in the checkpoint; metrics and predictions are in the label's own unit.

    Args:
        loss: ``mse``, ``l1`` or ``huber``, on standardised values; or ``beta_nll``, with which the
            network also learns how far off it may be, for each image: predictions then have an
            interval (Seitzer et al. 2022, "On the Pitfalls of Heteroscedastic Uncertainty
            Estimation with Probabilistic Neural Networks").
        huber_delta: Where Huber's loss turns from quadratic to linear, in standard deviations.
        scale: ``log`` learns the logarithm of numbers above 0, such as prices: errors are ratios.
            The answer is the exponential of the learned mean, which is the median.
        bounds: The smallest and largest possible number, for example ``[0, 100]``: answers are
            within them, and other labels are an error.
        beta: How much rows with a large predicted variance count in ``beta_nll``: in 0..1, from the
            likelihood (0) to the squared error (1).
        interval: The share of labels that should lie in the interval of ``beta_nll``: by its
            calibration, or, without one, if errors are normally distributed on the learned scale.
        weight: Factor of this task's loss in the sum over tasks.
        head: Settings of this task's head; the model's apply where it has none.
    """

    primary: ClassVar[str] = "r2"
    compares_views: ClassVar[bool] = True
    calibrates: ClassVar[bool] = True
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        loss: NumberLoss = "mse",
        huber_delta: float = 1.0,
        scale: Scale = "linear",
        bounds: list[float] | None = None,
        beta: float = 0.5,
        interval: float = 0.9,
        weight: float = 1.0,
        head: HeadOptions | None = None,
    ) -> None:
        super().__init__(weight, head)
        if not huber_delta > 0:
            raise UserError(f"huber_delta should be above 0. Found {huber_delta}")
        if not 0 <= beta <= 1:
            raise UserError(f"beta should be in 0..1. Found {beta}")
        if not 0 < interval < 1:
            raise UserError(f"interval should be in 0..1 (both excluded). Found {interval}")
        self.loss_name = loss
        self.huber_delta = huber_delta
        self.scale = NumberScale(scale, bounds)
        self.beta = beta
        self.interval = interval
        # In float64, as the labels: float32 has seven digits, and a time stamp has ten.
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("std", torch.ones((), dtype=torch.float64))

    @property
    def learns_variance(self) -> bool:
        """Whether the network learns how far off each answer may be."""
        return self.loss_name == "beta_nll"

    @property
    def has_interval(self) -> bool:
        """Whether the answer has an interval."""
        return self.learns_variance or bool(self.calibration and self.calibration.reach)

    def identity(self) -> dict[str, object]:
        """Return the scale and the bounds, which decide the meaning of outputs."""
        bounds = self.scale.bounds
        return {"scale": self.scale.scale, "bounds": None if bounds is None else list(bounds)}

    def encode(self, cells: NDArray[np.object_]) -> Encoded:
        """Read each cell as a possible number: float64 targets, ``(N,)`` masks."""
        labelled = pd.notna(cells)
        values = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce")
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        good = labelled & self.scale.holds(numbers)
        return Encoded(np.where(good, numbers, 0.0), good, labelled & ~good)

    def meaning(self, cell: str, field: str) -> Hashable:
        """Return the number, if the cell is one."""
        del field
        value = number(cell)
        return cell if value is None else value

    def expected(self, cell: str) -> str:
        """Ask for a possible number, with a hint if a comma stands for the decimal point."""
        comma = decimal_point(cell) != cell
        hint = ' (with a decimal point; or set `decimal: ","` in the source)'
        hint = hint if comma else if_missing(cell)
        return f"{self.scale.expected()}{hint}"

    def fit_statistics(self, targets: Tensor, labelled: Tensor) -> None:
        """Compute mean and standard deviation of the training labels, or of their logarithms."""
        del labelled  # a row that has no label is not passed here
        mean, std = self.statistics(targets)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def statistics(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of labels, or of their logarithms, in float64.

        Raises:
            UserError: If all are the same number.
        """
        values = numbers.double()
        if bool((values == values[0]).all()):  # whose deviation may be rounded to above 0
            raise UserError(
                f"every training label is {values[0].item():.15g}; there is nothing to learn"
            )
        values = self.scale.learned(values)
        if bool((values == values[0]).all()):
            raise UserError("the logarithms of all training labels are equal in float64")
        return values.mean(), values.std(correction=0)

    def keep_statistics(self, saved: Mapping[str, Tensor], names: Sequence[str]) -> None:
        """Keep mean and deviation; see `Task.keep_statistics`."""
        del names
        self.mean.copy_(saved["mean"])
        self.std.copy_(saved["std"])

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
        """One standardised number, and one for its variance if that is learned."""
        return 2 if self.learns_variance else 1

    def _means(self, outputs: Tensor) -> Tensor:
        """Return the standardised answers ``(B,)`` in the precision of the outputs."""
        own = outputs[:, 0] if self.learns_variance else outputs.squeeze(1)
        return self.scale.limited(own, self.mean, self.std)

    def _variances(self, outputs: Tensor) -> Tensor:
        """Return the variances ``(B,)`` of the standardised answers."""
        return F.softplus(outputs[:, 1]) + LEAST_VARIANCE

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss per row: ``(B, num_outputs)``, ``(B,)`` targets in the label's unit -> ``(B,)``."""
        means = self._means(outputs)
        # Rounded to the network's precision last: what is close to the mean keeps its digits.
        wide = targets.to(self.mean.dtype)
        standard = self.scale.standardised(wide, self.mean, self.std).to(outputs.dtype)
        if self.loss_name == "mse":
            return F.mse_loss(means, standard, reduction="none")
        if self.loss_name == "l1":
            return F.l1_loss(means, standard, reduction="none")
        if self.loss_name == "huber":
            return F.huber_loss(means, standard, reduction="none", delta=self.huber_delta)
        return beta_nll(means, self._variances(outputs), standard, self.beta)

    def mistakes(self, outputs: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
        """Return the absolute error in standard deviations of the training labels."""
        safe = torch.where(labelled, targets, torch.ones_like(targets)).to(self.mean.dtype)
        standard = self.scale.standardised(safe, self.mean, self.std)
        return mean_of_labelled((self._means(outputs).to(standard) - standard).abs(), labelled)

    def doubts(self, outputs: Tensor) -> Tensor | None:
        """Return the variance of each answer, if it is learned."""
        if not self.learns_variance:
            return None
        return self._variances(outputs.float()).reshape(len(outputs), -1).mean(1)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return ``value``, ``(B,)`` in the label's own unit, and perhaps its interval.

        The ends of the interval are ``low`` and ``high``.
        """
        means = self._means(outputs.to(torch.promote_types(outputs.dtype, self.mean.dtype)))
        ends = {"value": means}
        if self.has_interval:
            reach = self._reach(outputs, means)
            ends |= {"low": means - reach, "high": means + reach}
        return {key: self.scale.numbers(end, self.mean, self.std) for key, end in ends.items()}

    def _reach(self, outputs: Tensor, means: Tensor) -> Tensor:
        """Return how far the interval goes to either side, in the shape of the means or one."""
        if self.calibration is not None and self.calibration.reach:
            factor = means.new_tensor(self.calibration.reach)
        else:
            factor = means.new_tensor(NormalDist().inv_cdf((1 + self.interval) / 2))
        if not self.learns_variance:
            return factor
        # In float32, as ONNX Runtime has no softplus of float64.
        variances = self._variances(outputs.to(torch.promote_types(outputs.dtype, torch.float)))
        return factor * variances.sqrt().to(means.dtype)

    def calibrate(
        self, outputs: Tensor, targets: Tensor, labelled: Tensor, coverage: float
    ) -> Calibration:
        """Fit the interval: split conformal prediction on the learned scale; see `Task.calibrate`.

        The score is the absolute residual; with ``beta_nll`` over the predicted deviation, so that
        the interval is as wide as each image needs, and ``interval`` is its coverage (Lei et al.
        2018, "Distribution-Free Predictive Inference for Regression", sections 2.2 and 5.2).
        """
        coverage = self.interval if self.learns_variance else coverage
        wide = outputs.to(self.mean.dtype)
        truth = self.scale.standardised(targets.to(self.mean.dtype), self.mean, self.std)
        scores = (truth - self._means(wide)).abs()
        if self.learns_variance:
            scores = scores / self._variances(wide).sqrt()
        columns, masks = (each.reshape(len(scores), -1).T for each in (scores, labelled))
        reach = [
            conformal_quantile(own[known], coverage)
            for own, known in zip(columns, masks, strict=True)
        ]
        found = tuple(each for each in reach if each is not None)
        return Calibration(coverage=coverage, reach=found if len(found) == len(reach) else ())

    def metrics(self) -> MetricCollection:
        """Mean absolute error, root mean squared error (label's unit), and R2.

        With an interval, also how many labels are in it, and how wide it is.
        """
        metrics: dict[str, Metric | MetricCollection] = {
            "mae": MeanAbsoluteError().set_dtype(torch.float64),
            "rmse": MeanSquaredError(squared=False).set_dtype(torch.float64),
            "r2": R2(),
        }
        if self.has_interval:
            metrics["interval"] = IntervalMetrics()
        return MetricCollection(metrics, compute_groups=False)

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
        # Only the metric that asks for the origin, or the interval, is given it.
        wide = {key: answer.to(dtype) for key, answer in answers.items()}
        origin = self.scale.numbers(torch.zeros_like(self.mean), self.mean, self.std)
        metrics.update(wide.pop("value"), targets.to(dtype), origin=origin, **wide)

    def columns(self, answers: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return the number in the label's own unit, and perhaps its interval.

        They are without digits that the network has not.
        """
        std = self.std.item()
        return {
            "" if key == "value" else key: self.scale.written(answer, std)
            for key, answer in answers.items()
        }

    def guess(self, outputs: Tensor, others: Tensor | None, soft: bool) -> Guess:
        """Guess the number, with a confidence that falls as two views disagree; see `Task.guess`.

        It is exp(-d^2) for a difference of d standard deviations of the training labels.
        """
        del soft
        means = self._means(outputs)
        differences = means - (means if others is None else self._means(others))
        confidence = torch.exp(-differences.float().square())
        return Guess(self.predict(outputs)["value"], confidence, None)

    def plot_data(self) -> ScatterPlotData:
        """Collect predictions and labels, and perhaps intervals."""
        return ScatterPlotData(intervals=self.learns_variance, log=self.scale.scale == "log")
