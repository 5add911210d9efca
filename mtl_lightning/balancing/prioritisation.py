"""Weights by how difficult a task still is."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl_lightning.balancing.base import LossBalancingMethod
from mtl_lightning.system.errors import UserError


class DynamicPrioritisation(LossBalancingMethod):
    """Gives a task more weight, the lower its primary metric on the training labels is.

    With k the metric in 0..1 (a moving average over epochs), a task's weight is the focal term
    ``-(1 - k) ** gamma * log k``, divided by its mean over tasks to bring the weights to about 1;
    the paper leaves that to the learning rate. All weights are 1 in the first epoch. A task without
    labels in an epoch keeps its average, and one that has never had any has weight 1.

    Guo et al., "Dynamic Task Prioritization for Multitask Learning", ECCV 2018.

    Args:
        gamma: How strongly difficult tasks are preferred, 0 or more.
        smoothing: The share of the old average in the new one, from 0 to below 1.
    """

    reads_losses = False
    supports_accumulation = True

    def __init__(self, gamma: float = 1.0, smoothing: float = 0.5) -> None:
        super().__init__()
        if not gamma >= 0:
            raise UserError(f"DynamicPrioritisation: gamma should be 0 or more. Found {gamma}")
        if not 0 <= smoothing < 1:
            raise UserError(
                f"DynamicPrioritisation: smoothing should be in 0..1 (1 excluded). "
                f"Found {smoothing}"
            )
        self.gamma = gamma
        self.smoothing = smoothing

    def initial_state(self) -> dict[str, Tensor]:
        """Return the averages of the metric, and the number of epochs in each."""
        zeros = torch.zeros(len(self.tasks))
        return {"metric": zeros, "epochs": zeros.clone()}

    def epoch_end(self, scores: Mapping[str, float]) -> None:
        """Update the averages with the epoch's metrics."""
        metric, epochs = self.state["metric"], self.state["epochs"]
        for index, task in enumerate(self.tasks):
            if task in scores:
                kept = self.smoothing if epochs[index] else 0.0
                metric[index] = kept * metric[index] + (1 - kept) * scores[task]
                epochs[index] += 1

    def weights(self) -> Tensor:
        """Return the (K,) weights in the current epoch."""
        known = self.state["epochs"] > 0
        metric = self.state["metric"].clamp(0.01, 0.99)  # at 0 or 1 it alone would count
        focal = -((1 - metric) ** self.gamma) * metric.log()
        mean = (focal * known).sum() / known.sum().clamp(min=1)
        return torch.where(known, focal / mean.clamp(min=1e-8), 1.0)

    def combine(self, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return the weighted sum."""
        return (self.weights().to(losses)[list(active)] * losses).sum()
