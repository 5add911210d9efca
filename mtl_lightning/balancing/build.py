"""From what a config names to steps."""

from collections.abc import Sequence
from typing import Any

from torchjd.aggregation import Aggregator, Weighting
from torchjd.scalarization import Scalarizer

from mtl_lightning.balancing.balancer import LossSteps, Steps
from mtl_lightning.balancing.base import GradientBalancing, LossBalancing
from mtl_lightning.balancing.gradients.gradient_balancer import GradientSteps, Of
from mtl_lightning.balancing.torchjd.aggregators import from_aggregator
from mtl_lightning.balancing.torchjd.scalarizers import from_scalarizer
from mtl_lightning.system.errors import UserError

Method = LossBalancing | GradientBalancing | Scalarizer | Aggregator | Weighting[Any]
"""What ``model.balancing`` may name."""


def steps_of(
    method: Method, tasks: Sequence[str], gradients: Of = "parameters", every_n_steps: int = 1
) -> Steps:
    """Return what takes the steps of a training with the method.

    Args:
        method: The method.
        tasks: The names of all tasks.
        gradients: Where it reads gradients, with respect to what.
        every_n_steps: Where it reads gradients, how often.

    Raises:
        UserError: If the settings do not fit each other, or the tasks.
    """
    if isinstance(method, Scalarizer):
        method = from_scalarizer(method)
    elif isinstance(method, Aggregator | Weighting):
        method = from_aggregator(method)
    if isinstance(method, GradientBalancing):
        return GradientSteps(method, tasks, gradients, every_n_steps)
    if gradients != "parameters" or every_n_steps != 1:
        raise UserError(
            f"model.balancing: {method.title} reads losses, not gradients; leave model.gradients "
            f"and model.balance_every_n_steps out"
        )
    return LossSteps(method, tasks)
