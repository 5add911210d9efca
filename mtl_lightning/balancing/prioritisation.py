"""Weights by how hard a task still is."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl_lightning.balancing.base import LossBalancing
from mtl_lightning.system.errors import UserError


class DynamicPrioritisation(LossBalancing):
    """Weighs a task the more, the lower its primary metric on the training labels is.

    With k the metric in 0..1 (a moving average over epochs), a task's weight is the focal term
    ``-(1 - k) ** gamma * log k``, divided by its mean over tasks: so that the weights are about 1,
    which the paper leaves to the learning rate. All are 1 in the first epoch. A task without labels
    in an epoch keeps its average, and one that never had any weighs 1.

    Guo et al., "Dynamic Task Prioritization for Multitask Learning", ECCV 2018.

    Args:
        gamma: How strongly hard tasks are preferred, 0 or more.
        smoothing: Share of the old average in the new one, from 0 to below 1.
    """

    reads_values = False
    accumulates = True

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
        """Averages of the metric, and of how many epochs they are."""
        zeros = torch.zeros(len(self.tasks))
        return {"metric": zeros, "epochs": zeros.clone()}

    def epoch_end(self, scores: Mapping[str, float]) -> None:
        """Take the epoch's metrics into the averages."""
        metric, epochs = self.state["metric"], self.state["epochs"]
        for number, task in enumerate(self.tasks):
            if task in scores:
                kept = self.smoothing if epochs[number] else 0.0
                metric[number] = kept * metric[number] + (1 - kept) * scores[task]
                epochs[number] += 1

    def weights(self) -> Tensor:
        """Return the (K,) weights of the present epoch."""
        known = self.state["epochs"] > 0
        metric = self.state["metric"].clamp(0.01, 0.99)  # at 0 and 1 there would be no other task
        focal = -((1 - metric) ** self.gamma) * metric.log()
        mean = (focal * known).sum() / known.sum().clamp(min=1)
        return torch.where(known, focal / mean.clamp(min=1e-8), 1.0)

    def combine(self, values: Tensor, present: Sequence[int]) -> Tensor:
        """Return the weighted sum."""
        return (self.weights().to(values)[list(present)] * values).sum()
