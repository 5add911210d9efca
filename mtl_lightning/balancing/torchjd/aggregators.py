"""TorchJD's aggregators, extended to absent tasks, several ranks and checkpoints.

Nearly all of them depend only on the inner products of the gradients: they see a K x K matrix with
the same inner products instead of K gradients of millions of values, and give the same weights.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchjd import Stateful
from torchjd.aggregation import (
    Aggregator,
    ConFIG,
    ConstantWeighting,
    CRMOGMWeighting,
    ExcessMTLWeighting,
    GradDrop,
    GradVacWeighting,
    GramianWeightedAggregator,
    KrumWeighting,
    MeanWeighting,
    MoDoWeighting,
    NashMTL,
    PCDWeighting,
    RandomWeighting,
    SDMGradWeighting,
    SumWeighting,
    TrimmedMean,
    WeightedAggregator,
    Weighting,
)

from mtl_lightning.balancing.torchjd.base import TorchJDMethod
from mtl_lightning.balancing.torchjd.cr_mogm import CRMOGMMethod
from mtl_lightning.balancing.torchjd.excess_mtl import ExcessMTLMethod
from mtl_lightning.balancing.torchjd.gradvac import GradVacMethod
from mtl_lightning.balancing.torchjd.nash_mtl import NashMTLMethod
from mtl_lightning.balancing.torchjd.pcd import PCDMethod
from mtl_lightning.balancing.torchjd.subset import TaskSubset, core, scale_of
from mtl_lightning.system.errors import UserError

_READ_THE_NUMBER = (MeanWeighting, SumWeighting, ConstantWeighting, RandomWeighting)
"""Weightings that take the gradients, and read only how many there are."""

_STATEFUL: dict[type, Callable[[Any, Any], TorchJDMethod]] = {
    ExcessMTLWeighting: ExcessMTLMethod,
    GradVacWeighting: GradVacMethod,
    NashMTL: NashMTLMethod,
    PCDWeighting: PCDMethod,
}
"""Methods whose state is kept here, by task: TorchJD's own has one row for each task that it saw
last, is reset when their number changes, and mostly is in no checkpoint."""


class AggregatorMethod(TorchJDMethod):
    """An aggregator or weighting of TorchJD without state.

    Args:
        named: The object that the config names.
    """

    def __init__(self, named: Aggregator | Weighting[Any]) -> None:
        super().__init__(named)
        self.method = _as_aggregator(named)
        inner = core(self.method)
        self.needs_jacobian = not (
            isinstance(self.method, GramianWeightedAggregator | ConFIG)
            or (isinstance(self.method, WeightedAggregator) and isinstance(inner, _READ_THE_NUMBER))
        )
        self.columnwise = isinstance(inner, GradDrop | TrimmedMean)

    def attach(self, tasks: Sequence[str]) -> None:
        """Take the tasks, and compare their number with the settings."""
        super().attach(tasks)
        if _fewest(self.method) > len(tasks):
            raise UserError(
                f"model.balancing: {self.title} with these settings needs {_fewest(self.method)} "
                f"tasks at least. Found {len(tasks)}"
            )
        self._subset = TaskSubset(self.method, tasks)
        self._scale = scale_of(self.method, len(tasks))

    def weigh(self, gramian: Tensor, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return TorchJD's weights of the active tasks, times the factor of `scale_of`.

        In a step that its solver cannot solve, or with too few tasks for it, all weights are equal.
        """
        del losses
        if len(active) < _fewest(self.method):
            return self._equal_weights(gramian)

        def solve() -> Tensor:
            with self._subset.restricted_to(active, gramian):
                return self._weights(gramian) * self._scale(active)

        return self._solve(solve, gramian)

    def _weights(self, gramian: Tensor) -> Tensor:
        if isinstance(self.method, GramianWeightedAggregator):
            weights: Tensor = self.method.gramian_weighting(gramian)
            return weights
        # Rows with these inner products, in K dimensions: the gradients, rotated.
        root = _root(gramian)
        if isinstance(self.method, WeightedAggregator):
            of_rows: Tensor = self.method.weighting(root)
            return of_rows
        combined: Tensor = self.method(root)
        rotated_back: Tensor = combined @ torch.linalg.pinv(root)
        return rotated_back

    def aggregate(self, jacobian: Tensor, active: Sequence[int]) -> Tensor:
        """Return TorchJD's aggregation of the gradients, times the factor of `scale_of`."""
        if len(active) < _fewest(self.method):
            return jacobian.sum(0) / len(self.tasks)
        with self._subset.restricted_to(active, jacobian):
            combined: Tensor = self.method(jacobian)
        return combined * self._scale(active)


def from_aggregator(method: Aggregator | Weighting[Any]) -> TorchJDMethod:
    """Return an aggregator or weighting, TorchJD's or one derived from it, as a balancing method.

    Raises:
        UserError: If it needs gradients of two batches, or has a state that cannot be kept by task.
    """
    weighting = _weighting_of(method)
    if isinstance(weighting, CRMOGMWeighting):
        return CRMOGMMethod(method, weighting, from_aggregator(weighting.weighting))
    for part in (method, weighting):
        if type(part) in _STATEFUL:
            return _STATEFUL[type(part)](method, part)
    for part in method.modules():
        name = type(part).__name__
        if isinstance(part, MoDoWeighting | SDMGradWeighting):
            raise UserError(
                f"model.balancing should need the gradients of one batch per step. Found {name}, "
                f"which needs those of two independent batches; MGDA is the nearest method"
            )
        if isinstance(part, Stateful):
            raise UserError(
                f"model.balancing: {name} should have no state of its own, which cannot be divided "
                f"by task. Found a Stateful weighting; derive it from "
                f"mtl_lightning.balancing.GradientBalancingMethod"
            )
    return AggregatorMethod(method)


def _weighting_of(method: Aggregator | Weighting[Any]) -> nn.Module:
    """Return the weighting of an aggregator that has one, else the method itself."""
    if isinstance(method, GramianWeightedAggregator):
        return method.gramian_weighting
    return method.weighting if isinstance(method, WeightedAggregator) else method


def _as_aggregator(method: Aggregator | Weighting[Any]) -> Aggregator:
    if isinstance(method, Aggregator):
        return method
    if isinstance(method, _READ_THE_NUMBER):
        return WeightedAggregator(method)
    return GramianWeightedAggregator(method)


def _fewest(method: Aggregator) -> int:
    """Return the smallest number of gradients that the method takes."""
    inner = core(method)
    if isinstance(inner, KrumWeighting):
        return max(inner.n_byzantine + 3, inner.n_selected)
    return 2 * inner.trim_number + 1 if isinstance(inner, TrimmedMean) else 1


def _root(gramian: Tensor) -> Tensor:
    """Return R, (n, n) float64, with R R^T the inner products; what is only rounding is 0."""
    squares, directions = torch.linalg.eigh(gramian.to(torch.float64))
    rounding = squares[-1].clamp(min=0) * len(gramian) * torch.finfo(gramian.dtype).eps
    root: Tensor = directions * torch.where(squares > rounding, squares, 0.0).sqrt()
    return root
