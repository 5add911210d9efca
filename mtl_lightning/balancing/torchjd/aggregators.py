"""TorchJD's aggregators: what they lack of absent tasks, ranks and checkpoints is added here.

Nearly all of them depend on the gradients' inner products alone: they are shown a K x K matrix
with these instead of K gradients of millions of numbers, and give the same weights.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from rich import get_console
from torch import Tensor
from torchjd.aggregation import (
    Aggregator,
    ConFIG,
    ConstantWeighting,
    ExcessMTLWeighting,
    GradDrop,
    GramianWeightedAggregator,
    KrumWeighting,
    MeanWeighting,
    MoDoWeighting,
    NashMTL,
    RandomWeighting,
    SDMGradWeighting,
    SumWeighting,
    TrimmedMean,
    WeightedAggregator,
    Weighting,
)

from mtl_lightning.balancing.base import GradientBalancingMethod
from mtl_lightning.balancing.torchjd.memory import TaskMemory, memories_of
from mtl_lightning.balancing.torchjd.subset import TaskSubset, core, scale_of
from mtl_lightning.system.errors import UserError


class FromAggregator(GradientBalancingMethod):
    """Any of TorchJD's aggregators, or weightings.

    Args:
        method: What the config names.
    """

    def __init__(self, method: Aggregator | Weighting[Any]) -> None:
        super().__init__()
        self.named = method
        self.method = _as_aggregator(method)
        inner = core(self.method)
        self.needs_jacobian = not _reads_products_alone(self.method)
        self.columnwise = isinstance(inner, GradDrop | TrimmedMean)
        self._told = False

    @property
    def title(self) -> str:
        """TorchJD's name of it."""
        return type(self.named).__name__

    def attach(self, tasks: Sequence[str]) -> None:
        """Take the tasks, and compare them with the settings."""
        super().attach(tasks)
        if _fewest(self.method) > len(tasks):
            raise UserError(
                f"model.balancing: {self.title} with these settings needs {_fewest(self.method)} "
                f"tasks at least. Found {len(tasks)}"
            )
        self._memories: list[TaskMemory] = memories_of(self.method, len(tasks))
        self._subset = TaskSubset(self.method, tasks)
        self._scale = scale_of(self.method, len(tasks))
        self.task_axes = {n: axes for memory in self._memories for n, axes in memory.axes.items()}

    def begin(self, device: torch.device, dtype: torch.dtype) -> None:
        """Forget an earlier training. What is remembered stays on the CPU, in float64."""
        del device, dtype
        super().begin(torch.device("cpu"), torch.float64)

    def initial_state(self) -> dict[str, Tensor]:
        """Return what the parts of the method remember."""
        return {
            name: value for memory in self._memories for name, value in memory.initial().items()
        }

    def weigh(self, gramian: Tensor, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return TorchJD's weights of what is present, times the factor of `scale_of`.

        A step that its solver cannot solve, or that has too few tasks for it, weighs them equally.
        """
        del losses
        rows = list(active)
        if len(rows) < _fewest(self.method):
            return torch.full((len(rows),), 1 / len(self.tasks), dtype=gramian.dtype)
        for memory in self._memories:
            memory.load(self.state, rows, gramian)
        try:
            with self._subset.restricted_to(rows, gramian), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of solvers, about their speed and accuracy
                weights = self._weights(gramian)
        except Exception as error:  # each solver has its own
            self._tell(error)
            return torch.full((len(rows),), 1 / len(self.tasks), dtype=gramian.dtype)
        factor = self._scale(rows)
        for memory in self._memories:
            factor *= memory.store(self.state, rows)
        return weights * factor

    def _weights(self, gramian: Tensor) -> Tensor:
        if isinstance(self.method, GramianWeightedAggregator):
            weights: Tensor = self.method.gramian_weighting(gramian)
            return weights
        # Rows with these inner products, in K dimensions: turned, but otherwise the gradients.
        root = _root(gramian)
        if isinstance(self.method, NashMTL) and len(gramian) == 1:
            return _bargain_of_one(gramian, self.method.max_norm)
        if isinstance(self.method, WeightedAggregator):
            of_rows: Tensor = self.method.weighting(root)
            return of_rows
        combined: Tensor = self.method(root)
        turned_back: Tensor = combined @ torch.linalg.pinv(root)
        return turned_back

    def aggregate(self, jacobian: Tensor, active: Sequence[int]) -> Tensor:
        """Return TorchJD's aggregation of the gradients, times the factor of `scale_of`."""
        rows = list(active)
        if len(rows) < _fewest(self.method):
            return jacobian.sum(0) / len(self.tasks)
        for memory in self._memories:
            memory.load(self.state, rows, jacobian)
        with self._subset.restricted_to(rows, jacobian):
            combined: Tensor = self.method(jacobian)
        factor = self._scale(rows)
        for memory in self._memories:
            factor *= memory.store(self.state, rows)
        return combined * factor

    def _tell(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            said = " ".join(str(error).split())[:120] or type(error).__name__
            get_console().print(
                f"[yellow]note:[/] {self.title} could not solve a step ({said}): in such steps "
                f"all tasks weigh the same",
                highlight=False,
            )


def from_aggregator(method: Aggregator | Weighting[Any]) -> FromAggregator:
    """Return an aggregator or weighting of TorchJD, or one's own, as a method of ours.

    Raises:
        UserError: If it wants gradients of two batches, or remembers what nobody here can keep.
    """
    for part in method.modules():
        if isinstance(part, MoDoWeighting | SDMGradWeighting):
            raise UserError(
                f"model.balancing: {type(part).__name__} wants gradients of two independent "
                f"batches in each step, which a step here does not have; MGDA is the nearest"
            )
    return FromAggregator(method)


_OF_A_MATRIX = (MeanWeighting, SumWeighting, ConstantWeighting, RandomWeighting, ExcessMTLWeighting)
"""Weightings that read the gradients; the first four only their number."""


def _as_aggregator(method: Aggregator | Weighting[Any]) -> Aggregator:
    if isinstance(method, Aggregator):
        return method
    kind = (
        WeightedAggregator if isinstance(core(method), _OF_A_MATRIX) else GramianWeightedAggregator
    )
    return kind(method)


def _reads_products_alone(method: Aggregator) -> bool:
    if isinstance(method, GramianWeightedAggregator | ConFIG | NashMTL):
        return True
    return isinstance(method, WeightedAggregator) and isinstance(core(method), _OF_A_MATRIX[:4])


def _fewest(method: Aggregator) -> int:
    """Return how many gradients the method needs."""
    inner = core(method)
    if isinstance(inner, KrumWeighting):
        return max(inner.n_byzantine + 3, inner.n_selected)
    return 2 * inner.trim_number + 1 if isinstance(inner, TrimmedMean) else 1


def _bargain_of_one(gramian: Tensor, max_norm: float) -> Tensor:
    """Return NashMTL's weight of a task that is alone, for which cvxpy has no problem to solve."""
    longest = max_norm or torch.inf
    return (longest / gramian[0].sqrt()).clamp(max=1.0)


def _root(gramian: Tensor) -> Tensor:
    """Return R, (n, n) float64, with R R^T the inner products; what is only rounding is 0."""
    squares, directions = torch.linalg.eigh(gramian.to(torch.float64))
    rounding = squares[-1].clamp(min=0) * len(gramian) * torch.finfo(gramian.dtype).eps
    root: Tensor = directions * torch.where(squares > rounding, squares, 0.0).sqrt()
    return root
