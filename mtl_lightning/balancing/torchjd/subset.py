"""TorchJD's methods, restricted to the tasks that have a label in the step."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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
"""Methods whose weights have the same sum (1, or nearly) for any number of tasks."""


class TaskSubset:
    """The vectors of a method that have one value per task: preferences, references, bounds.

    They are found and replaced through the method's public attributes.

    Args:
        method: TorchJD's method, for all tasks.
        tasks: The names of all tasks.

    Raises:
        UserError: If a vector has another length.
    """

    def __init__(self, method: nn.Module, tasks: Sequence[str]) -> None:
        self._vectors = [
            (part, name, value)
            for part in method.modules()
            for name, value in _public_vectors(part)
        ]
        for _, name, value in self._vectors:
            if len(value) != len(tasks):
                raise UserError(
                    f"model.balancing: {type(method).__name__}: {name} should have a number for "
                    f"each of the {len(tasks)} tasks ({listed(tasks)}). Found {len(value)}"
                )

    @contextmanager
    def restricted_to(self, active: Sequence[int], like: Tensor) -> Iterator[None]:
        """Restrict the vectors to these tasks, in the dtype and on the device of ``like``."""
        rows = list(active)
        for part, name, whole in self._vectors:
            setattr(part, name, whole[rows].to(device=like.device, dtype=like.dtype))
        try:
            yield
        finally:
            for part, name, whole in self._vectors:
                setattr(part, name, whole)


def _public_vectors(part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name in dir(part):
        member = inspect.getattr_static(part, name, None)
        if name.startswith("_") or (isinstance(member, property) and member.fset is None):
            continue
        value = getattr(part, name)
        if isinstance(value, Tensor) and value.ndim == 1 and not isinstance(value, nn.Parameter):
            yield name, value


def core(method: nn.Module) -> nn.Module:
    """Return the part of a method that decides how its weights scale: the innermost weighting."""
    if isinstance(method, aggregation.GramianWeightedAggregator):
        return core(method.gramian_weighting)
    if isinstance(method, aggregation.WeightedAggregator | aggregation.CRMOGMWeighting):
        return core(method.weighting)
    return method


def scale_of(method: nn.Module, count: int) -> Callable[[Sequence[int]], float]:
    """Return the factor of the active tasks' weights, as a function of these tasks.

    A method sees only the active tasks. If its weights have a constant sum, a task that is the only
    active one would get all of it, and learn K times as fast as among the others; the factor n / K,
    n of K tasks active, undoes that. With all tasks active it is 1, and the method is TorchJD's.

    Args:
        method: TorchJD's method.
        count: K, the number of all tasks.
    """
    inner = core(method)
    preferred = getattr(inner, "pref_vector", None) is not None
    by_share = type(inner).__name__ in _CONSTANT_SUM and _is_torchjds(inner)
    # Without preferences these start from 1 / n for each task, else from the preferences.
    by_share |= _is_torchjds(inner) and hasattr(inner, "pref_vector") and not preferred
    by_share &= not isinstance(inner, aggregation.ConFIG)  # starts from 1 for each
    by_share |= isinstance(inner, aggregation.FairGradWeighting) and inner.alpha == 0
    if by_share:
        return lambda active: len(active) / count
    if isinstance(inner, scalarization.PBI):
        whole = inner.weights.norm()  # it normalises the preferences that it is given
        weights = inner.weights
        return lambda active: float(weights[list(active)].norm() / whole)
    return lambda _: 1.0


def _is_torchjds(method: nn.Module) -> bool:
    return type(method).__module__.startswith("torchjd.")
