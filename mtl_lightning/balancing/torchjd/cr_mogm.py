"""CR-MOGM: the weights of another method, smoothed over steps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchjd.aggregation import ConstantWeighting, CRMOGMWeighting

from mtl_lightning.balancing.torchjd.base import TorchJDMethod
from mtl_lightning.system.errors import UserError


class CRMOGMMethod(TorchJDMethod):
    """CR-MOGM, with the moving average of each task's weight kept by task.

    The average becomes ``alpha`` times itself plus ``1 - alpha`` times the weight of the step. It
    starts from a task's first weight, or from ``initial_weights``, in the task's own first step.

    Zhou et al., "On the Convergence of Stochastic Multi-Objective Gradient Manipulation and
    Beyond", NeurIPS 2022.

    Args:
        named: The object that the config names.
        weighting: TorchJD's weighting, with the settings.
        inner: The method whose weights are smoothed.

    Raises:
        UserError: If that method gives no weights, or smooths them itself.
    """

    def __init__(
        self, named: nn.Module, weighting: CRMOGMWeighting[Any], inner: TorchJDMethod
    ) -> None:
        super().__init__(named)
        if inner.needs_jacobian or isinstance(inner, CRMOGMMethod):
            raise UserError(
                f"model.balancing: CRMOGMWeighting should smooth weights that depend on inner "
                f"products. Found {inner.title}; name that method alone"
            )
        self.weighting, self.inner, self.task_axes = weighting, inner, inner.task_axes

    def attach(self, tasks: Sequence[str]) -> None:
        """Take the tasks."""
        super().attach(tasks)
        self.inner.attach(tasks)
        try:
            self._initial = _initial_weights(self.weighting, len(tasks))
        except ValueError as error:
            raise UserError(f"model.balancing: CRMOGMWeighting: {error}") from None

    def initial_state(self) -> dict[str, Tensor]:
        """Return averages of 0 (not known yet), and the state of the inner method."""
        zeros = torch.zeros(len(self.tasks))
        return {"smooth": zeros, "smoothed": zeros.clone(), **self.inner.initial_state()}

    def weigh(self, gramian: Tensor, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return the averages, moved towards the weights of this step."""
        rows, alpha = list(active), self.weighting.alpha
        self.inner.state = self.state
        weights = self.inner.weigh(gramian, losses, active)
        first = weights if self._initial is None else self._initial[rows].to(weights)
        known = self.state["smoothed"][rows] > 0
        last = torch.where(known, self.state["smooth"][rows].to(weights), first)
        weights = alpha * last + (1 - alpha) * weights
        self.state["smooth"][rows] = weights.to(torch.float64)
        self.state["smoothed"][rows] += 1
        return weights


def _initial_weights(weighting: CRMOGMWeighting[Any], tasks: int) -> Tensor | None:
    """Return ``initial_weights`` (K,), or None: TorchJD shows them only in what it smooths.

    If the first weights are 0, the smoothed ones are ``alpha`` times the initial weights.
    """
    inner = weighting.weighting
    weighting.weighting = ConstantWeighting(torch.zeros(tasks, dtype=torch.float64))
    weighting.reset()
    scaled: Tensor = weighting(torch.eye(tasks))
    weighting.weighting = inner
    weighting.reset()
    return scaled / weighting.alpha if scaled.any() else None
