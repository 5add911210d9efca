"""GradNorm: gradients of equal norm for tasks that learn at equal speed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_lightning.balancing.adam import adam_state, adam_step
from mtl_lightning.balancing.base import GradientBalancingMethod
from mtl_lightning.system.errors import UserError


class GradNorm(GradientBalancingMethod):
    """Learns weights that bring each task's gradient to a common norm, a larger one for slow tasks.

    With n_k the norm of a task's gradient, w_k its weight and r_k its loss against its first loss,
    relative to the mean of these, the weights follow, by Adam with a rate of their own, the
    gradient of ``sum |w_k n_k - mean(w n) r_k ** alpha|`` (the target held fixed). They are then
    scaled so that their sum over tasks stays K; where tasks are absent, the sum over the active
    ones stays what it was. The weights also multiply the heads' gradients, as in the paper. The
    gradients are those that ``model.gradients`` names; the paper takes those of one shared layer.

    Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask
    Networks", ICML 2018.

    Args:
        alpha: How strongly tasks that learn slowly are preferred; at 0 all norms are equal.
        lr: Adam's learning rate for the weights.
    """

    def __init__(self, alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__()
        if not lr > 0:
            raise UserError(f"GradNorm: lr should be above 0. Found {lr}")
        self.alpha = alpha
        self.lr = lr

    def initial_state(self) -> dict[str, Tensor]:
        """Return weights of 1, first losses of 0 (not known yet), and Adam's moments."""
        count = len(self.tasks)
        return {"weights": torch.ones(count), "first": torch.zeros(count), **adam_state(count)}

    def weigh(self, gramian: Tensor, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return the weights, and update them for the next step."""
        rows = list(active)
        losses = losses.to(torch.float64)
        first = self.state["first"][rows]
        first = torch.where(first > 0, first, losses)
        self.state["first"][rows] = first
        weights = self.state["weights"][rows]
        norms = gramian.diagonal().to(torch.float64).clamp(min=0).sqrt()
        rates = losses / first.clamp(min=1e-8)
        rates = rates / rates.mean().clamp(min=1e-8)
        target = (weights * norms).mean() * rates**self.alpha
        gradient = torch.sign(weights * norms - target) * norms
        learned = adam_step(self.state, weights, gradient, rows, self.lr).clamp(min=1e-3)
        self.state["weights"][rows] = learned * (weights.sum() / learned.sum())
        return weights

    def weigh_heads(self, losses: Tensor, weights: Tensor) -> Tensor:
        """Return the same weights: heads follow the weighted loss."""
        del losses
        return weights
