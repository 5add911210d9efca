"""PCD: the first task has priority, the others are guaranteed a share of progress."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchjd.aggregation import PCDWeighting

from mtl_lightning.balancing.torchjd.base import TorchJDMethod
from mtl_lightning.balancing.torchjd.subset import TaskSubset

_EQUAL_SCALES = 1e12
"""With an epsilon so many times the largest square, TorchJD divides all gradients by one number."""


class PCDMethod(TorchJDMethod):
    """Priority-Constrained Descent, with the mean square of each task's gradient norm kept by task.

    Equal to TorchJD's while all tasks are active. Gradients are normalised here, by the means over
    each task's own steps; TorchJD solves the quadratic program of the normalised gradients. The
    primary task is the first of the active ones.

    "Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical
    Multi-Objective Optimization", TMLR 2026 (arXiv 2606.29521).

    Args:
        named: The object that the config names.
        weighting: TorchJD's weighting, with the settings.
    """

    def __init__(self, named: nn.Module, weighting: PCDWeighting) -> None:
        super().__init__(named)
        self.weighting = weighting
        self.beta, self.eps = weighting.beta, weighting.eps
        self._solver = PCDWeighting(weighting.tau, beta=0.0)  # with beta 0 it has no state

    def attach(self, tasks: Sequence[str]) -> None:
        """Take the tasks; settings with a number for each task are refused."""
        super().attach(tasks)
        TaskSubset(self.weighting, tasks)

    def initial_state(self) -> dict[str, Tensor]:
        """Return the means, and the number of steps in each."""
        zeros = torch.zeros(len(self.tasks))
        return {"squares": zeros, "steps": zeros.clone()}

    def weigh(self, gramian: Tensor, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return the weights of an update as long as the primary task's gradient."""
        del losses
        rows = list(active)
        now = gramian.diagonal().to(torch.float64)
        squares = self.beta * self.state["squares"][rows] + (1 - self.beta) * now
        steps = self.state["steps"][rows] + 1
        self.state["squares"][rows], self.state["steps"][rows] = squares, steps
        norms = (squares / (1 - self.beta**steps) + self.eps).sqrt()
        scales = torch.where(norms > 0, 1 / norms, 0.0)
        normalised = (gramian * torch.outer(scales, scales)).to(gramian.dtype)
        largest = float(normalised.diagonal().max())
        self._solver.eps = _EQUAL_SCALES * (largest or 1.0)
        weights: Tensor = self._solver(normalised)
        return (weights * scales / scales[0]).to(gramian.dtype)
