"""From the method that a config names to the balancer that runs it."""

from collections.abc import Sequence
from typing import Any

from torchjd.aggregation import Aggregator, Weighting
from torchjd.scalarization import Scalarizer

from mtl_lightning.balancing.balancer import Balancer
from mtl_lightning.balancing.base import GradientBalancingMethod, LossBalancingMethod
from mtl_lightning.balancing.gradients.gradient_balancer import GradientBalancer, GradientsWrt
from mtl_lightning.balancing.loss_balancer import LossBalancer
from mtl_lightning.balancing.torchjd.aggregators import from_aggregator
from mtl_lightning.balancing.torchjd.scalarizers import from_scalarizer
from mtl_lightning.system.errors import UserError

Method = LossBalancingMethod | GradientBalancingMethod | Scalarizer | Aggregator | Weighting[Any]
"""The classes that ``model.balancing`` may name."""


def make_balancer(
    method: Method,
    tasks: Sequence[str],
    gradients: GradientsWrt = "parameters",
    every_n_steps: int = 1,
) -> Balancer:
    """Return the balancer for a method.

    Args:
        method: The method.
        tasks: The names of all tasks.
        gradients: For methods that read gradients: with respect to what these are taken.
        every_n_steps: For methods that read gradients: how often weights are computed.

    Raises:
        UserError: If the settings do not fit each other, or the tasks.
    """
    if isinstance(method, Scalarizer):
        method = from_scalarizer(method)
    elif isinstance(method, Aggregator | Weighting):
        method = from_aggregator(method)
    if isinstance(method, GradientBalancingMethod):
        return GradientBalancer(method, tasks, gradients, every_n_steps)
    if gradients != "parameters" or every_n_steps != 1:
        raise UserError(
            f"model.gradients and model.balance_every_n_steps should be left out with "
            f"model.balancing: {method.title}, which reads losses. Found gradients: {gradients}, "
            f"balance_every_n_steps: {every_n_steps}"
        )
    return LossBalancer(method, tasks)
