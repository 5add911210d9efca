"""TorchJD's methods, cut down to the tasks that have a label in the step."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torchjd import aggregation, scalarization

from mtl_lightning.system.errors import UserError, listed

_CONSTANT_SUM = (
    "Mean",  # of scalarization
    "Random",
    "GeometricMean",
    "FAMO",
    "MeanWeighting",  # of aggregation
    "RandomWeighting",
    "MGDAWeighting",
    "IMTLGWeighting",
    "CAGradWeighting",
    "KrumWeighting",
    "TrimmedMean",
)
"""Their weights have the same sum (1, or nearly) however many tasks there are."""


class Cut:
    """A method whose numbers by task (preferences, references, bounds) are those of some tasks.

    Args:
        method: What TorchJD built, with one number for each task wherever it takes a vector.
        tasks: The names of all tasks.

    Raises:
        UserError: If a vector has another length.
    """

    def __init__(self, method: nn.Module, tasks: Sequence[str]) -> None:
        self.method = method
        self.count = len(tasks)
        self._vectors: list[tuple[dict[str, Any], str, Tensor]] = []
        for part in method.modules():
            for holder in (vars(part), part._buffers):
                for name, value in holder.items():
                    if isinstance(value, Tensor) and value.ndim == 1:
                        self._take(holder, name, value, tasks)

    def _take(self, holder: dict[str, Any], name: str, value: Tensor, tasks: Sequence[str]) -> None:
        if len(value) != self.count:
            raise UserError(
                f"model.balancing: {type(self.method).__name__}: {name.lstrip('_')} should have a "
                f"number for each of the {self.count} tasks ({listed(tasks)}). "
                f"Found {len(value)}"
            )
        self._vectors.append((holder, name, value))

    @contextmanager
    def to(self, present: Sequence[int], like: Tensor) -> Iterator[None]:
        """Cut the vectors down to these tasks, in the dtype and on the device of ``like``."""
        rows = list(present)
        for holder, name, whole in self._vectors:
            holder[name] = whole[rows].to(device=like.device, dtype=like.dtype)
        try:
            yield
        finally:
            for holder, name, whole in self._vectors:
                holder[name] = whole


def core(method: nn.Module) -> nn.Module:
    """Return the part of a method that says how its weights scale: the innermost weighting."""
    if isinstance(method, aggregation.GramianWeightedAggregator):
        return core(method.gramian_weighting)
    if isinstance(method, aggregation.WeightedAggregator | aggregation.CRMOGMWeighting):
        return core(method.weighting)
    return method


def scale_of(method: nn.Module, count: int) -> Callable[[Sequence[int]], float]:
    """Return what the weights of the tasks present are multiplied by.

    A method is shown only the tasks that are present. Where its weights have a constant sum, a
    task that is alone in a step would get all of it, and be learned K times as fast as beside the
    others: the share n / K of the n that are present takes that back. With all tasks present the
    factor is 1, and the method TorchJD's own.

    Args:
        method: TorchJD's.
        count: K, the number of all tasks.
    """
    inner = core(method)
    preferred = getattr(inner, "pref_vector", None) is not None
    by_share = type(inner).__name__ in _CONSTANT_SUM and _is_theirs(inner)
    # Without preferences these begin with 1 / n for each, else with the preferences themselves.
    by_share |= _is_theirs(inner) and hasattr(inner, "pref_vector") and not preferred
    by_share &= not isinstance(inner, aggregation.ConFIG)  # begins with 1 for each
    by_share |= isinstance(inner, aggregation.FairGradWeighting) and inner.alpha == 0
    if by_share:
        return lambda present: len(present) / count
    if isinstance(inner, scalarization.PBI):
        whole = inner.weights.norm()  # it makes a unit vector of what is left of the preferences
        weights = inner.weights
        return lambda present: float(weights[list(present)].norm() / whole)
    return lambda _: 1.0


def _is_theirs(method: nn.Module) -> bool:
    return type(method).__module__.startswith("torchjd.")
