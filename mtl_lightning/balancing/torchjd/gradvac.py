"""GradVac: gradients are moved towards the cosines that pairs of tasks usually have."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchjd.aggregation import GradVacWeighting

from mtl_lightning.balancing.torchjd.base import TorchJDMethod


class GradVacMethod(TorchJDMethod):
    """GradVac, with the target cosine of each pair of tasks kept by task.

    If the cosine c of a task's gradient g with another's gradient h is below its target t, then
    ``|g| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|h| sqrt(1 - t^2))`` times h is added to g, which
    makes the cosine t; and t becomes ``(1 - beta) t + beta c``. Equal to TorchJD's while all tasks
    are active. The order in which the others are visited is drawn for each task.

    Wang, Tsvetkov, Firat and Cao, "Gradient Vaccine: Investigating and Improving Multi-task
    Optimization in Massively Multilingual Models", ICLR 2021 (arXiv 2010.05874).

    Args:
        named: The object that the config names.
        weighting: TorchJD's weighting, with the settings.
    """

    def __init__(self, named: nn.Module, weighting: GradVacWeighting) -> None:
        super().__init__(named)
        self.beta, self.eps = weighting.beta, weighting.eps
        self.task_axes = {"cosines": 2}

    def initial_state(self) -> dict[str, Tensor]:
        """Return the targets: 0 for every pair."""
        return {"cosines": torch.zeros(len(self.tasks), len(self.tasks))}

    def weigh(self, gramian: Tensor, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return the sum of the modified gradients' coefficients, and move the targets."""
        del losses
        rows, count = torch.tensor(active), len(active)
        targets = self.state["cosines"][rows[:, None], rows].to(gramian.dtype)
        norms = gramian.diagonal().clamp(min=0).sqrt()
        # Row i holds the coefficients of the modified gradient i in the original gradients.
        coefficients = torch.eye(count, dtype=gramian.dtype)
        for i in range(count):
            products = coefficients[i] @ gramian  # of the modified gradient i with every original
            others = [j for j in range(count) if j != i]
            for j in (others[k] for k in torch.randperm(len(others)).tolist()):
                norm = (products * coefficients[i]).sum().clamp(min=0).sqrt()
                cosine = products[j] / (norm * norms[j] + self.eps)
                target = targets[i, j].clone()
                if cosine < target:
                    sine = (1 - cosine * cosine).clamp(min=0).sqrt()
                    target_sine = (1 - target * target).clamp(min=0).sqrt()
                    step = norm * (target * sine - cosine * target_sine)
                    step = step / (norms[j] * target_sine + self.eps)
                    coefficients[i, j] += step
                    products = products + step * gramian[j]
                targets[i, j] = (1 - self.beta) * target + self.beta * cosine
        self.state["cosines"][rows[:, None], rows] = targets.to(torch.float64)
        return coefficients.sum(0)
