"""Several numbers in one head, each of which may be missing on its own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar
from unicodedata import normalize

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import MetricCollection

from mtl_lightning.models.heads import HeadOptions
from mtl_lightning.system.errors import UserError, listed
from mtl_lightning.tasks.base import Encoded
from mtl_lightning.tasks.cells import canonical
from mtl_lightning.tasks.mirroring import swap_permutation
from mtl_lightning.tasks.number_metrics import NumberMetrics
from mtl_lightning.tasks.number_scale import Scale
from mtl_lightning.tasks.plot_data import ScattersPlotData
from mtl_lightning.tasks.regression import LEAST_VARIANCE, NumberLoss, Regression


class MultiRegression(Regression):
    """Several numbers that one head learns, such as width and height, or three angles.

    Each comes from a column of its own and may be missing on its own: the others then count. Each
    is standardised by its own mean and deviation.

    The numbers do not move with the image: augmentation that crops or mirrors images leaves them as
    they are. For positions in the image, take transforms of colour alone and ``resize: stretch``.

    Args:
        numbers: Their names, in the order of the outputs.
        loss: See `Regression`, also for the following.
        huber_delta: Where Huber's loss turns from quadratic to linear, in standard deviations.
        scale: ``linear`` or ``log``, of all numbers.
        bounds: The smallest and largest possible number, the same for all.
        beta: The parameter of ``beta_nll``.
        interval: The share of labels that should lie in the interval of ``beta_nll``.
        weight: Factor of this task's loss in the sum over tasks.
        head: Settings of this task's head; the model's apply where it has none.
    """

    growing: ClassVar[tuple[str, ...]] = ("numbers",)

    def __init__(
        self,
        numbers: list[str],
        loss: NumberLoss = "mse",
        huber_delta: float = 1.0,
        scale: Scale = "linear",
        bounds: list[float] | None = None,
        beta: float = 0.5,
        interval: float = 0.9,
        weight: float = 1.0,
        head: HeadOptions | None = None,
    ) -> None:
        super().__init__(loss, huber_delta, scale, bounds, beta, interval, weight, head)
        self.numbers = [normalize("NFC", str(name)) for name in numbers]
        wrong = [name for name in self.numbers if not name or set("/:") & set(name)]
        if not self.numbers or len(set(self.numbers)) < len(self.numbers) or wrong:
            raise UserError(
                f'numbers should be different names without "/" and ":". '
                f"Found {listed(self.numbers) or 'none'}"
            )
        count = len(self.numbers)
        self.register_buffer("mean", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("std", torch.ones(count, dtype=torch.float64))

    def identity(self) -> dict[str, object]:
        """Return the names, the scale and the bounds."""
        return {"numbers": self.numbers, **super().identity()}

    @property
    def fields(self) -> tuple[str, ...]:
        """A column for each number."""
        return tuple(self.numbers)

    def encode(self, cells: NDArray[np.object_]) -> Encoded:
        """Read ``(N, L)`` cells: float64 targets and masks, both ``(N, L)``."""
        cells = cells.reshape(len(cells), len(self.numbers))
        columns = [super(MultiRegression, self).encode(column) for column in cells.T]
        parts = (
            np.stack([getattr(column, name) for column in columns], axis=1)
            for name in ("targets", "labelled", "bad")
        )
        targets, labelled, bad = parts
        return Encoded(targets, labelled, bad[:, 0] if len(self.numbers) == 1 else bad)

    def fit_statistics(self, targets: Tensor, labelled: Tensor) -> None:
        """Compute mean and standard deviation of each number's training labels."""
        for place, name in enumerate(self.numbers):
            own = targets[labelled[:, place], place]
            if not len(own):
                raise UserError(
                    f"no training label of {name}, which could never be learned; label some or "
                    f"leave it out of numbers"
                )
            try:
                self.mean[place], self.std[place] = self.statistics(own)
            except UserError as error:
                raise UserError(f"{name}: {error}") from None

    def keep_statistics(self, saved: Mapping[str, Tensor], names: Sequence[str]) -> None:
        """Keep mean and deviation of the numbers that were there; see `Task.keep_statistics`."""
        known = {canonical(name): place for place, name in enumerate(names)}
        for place, name in enumerate(self.numbers):
            before = known.get(canonical(name))
            if before is not None:
                for own in ("mean", "std"):
                    getattr(self, own)[place] = saved[own][before]

    def remarks(
        self, targets: NDArray[np.generic], labelled: NDArray[np.bool_]
    ) -> list[tuple[str, str]]:
        """Name numbers that may stand for "not labelled"; see `Regression.remarks`."""
        return [
            (f"{name}: {what}", fix)
            for place, name in enumerate(self.numbers)
            if labelled[:, place].any()
            for what, fix in super(MultiRegression, self).remarks(
                targets[:, place], labelled[:, place]
            )
        ]

    @property
    def num_outputs(self) -> int:
        """A standardised number for each output, and perhaps one for each variance."""
        return len(self.numbers) * (2 if self.learns_variance else 1)

    @property
    def output_names(self) -> Sequence[str]:
        """The numbers, and perhaps their variances."""
        variances = [f"{name}:variance" for name in self.numbers]
        return [*self.numbers, *(variances if self.learns_variance else [])]

    def _means(self, outputs: Tensor) -> Tensor:
        return self.scale.limited(outputs[:, : len(self.numbers)], self.mean, self.std)

    def _variances(self, outputs: Tensor) -> Tensor:
        return F.softplus(outputs[:, len(self.numbers) :]) + LEAST_VARIANCE

    def metrics(self) -> MetricCollection:
        """Errors and R2 of each number and as means, and perhaps coverage and width."""
        metric = NumberMetrics(self.numbers, self.has_interval)
        return MetricCollection({"numbers": metric}, compute_groups=False)

    def update(
        self,
        metrics: MetricCollection,
        answers: Mapping[str, Tensor],
        targets: Tensor,
        labelled: Tensor,
    ) -> None:
        """Update the metrics with predictions, targets and the mask of cells."""
        origin = self.scale.numbers(torch.zeros_like(self.mean), self.mean, self.std)
        metrics.update(answers, targets, labelled, origin)

    def columns(self, answers: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return a column for each number, and perhaps the ends of its interval."""
        columns = {}
        for place, name in enumerate(self.numbers):
            std = self.std[place].item()
            for key, answer in answers.items():
                column = name if key == "value" else f"{name}:{key}"
                columns[column] = self.scale.written(answer[:, place], std)
        return columns

    def mirrored(self, encoded: Encoded, pairs: Mapping[str, str]) -> Encoded:
        """Swap numbers that name a side, such as the openness of two eyes; see `Task.mirrored`."""
        order = swap_permutation(self.numbers, pairs, "number")
        return replace(
            encoded, targets=encoded.targets[:, order], labelled=encoded.labelled[:, order]
        )

    def plot_data(self) -> ScattersPlotData:
        """Collect predictions and labels of each number."""
        return ScattersPlotData(self.numbers, self.scale.scale == "log")
