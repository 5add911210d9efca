"""DB-MTL: logarithms of the losses, gradients of one norm."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_lightning.balancing.base import MIN_LOSS, GradientBalancingMethod


class DBMTL(GradientBalancingMethod):
    """Scales the gradients of the losses' logarithms to the norm of the largest of them.

    Heads follow the logarithm of their loss. This is the method without its moving average of the
    gradients (beta 0), which would keep K more copies of the network in memory and checkpoints.

    Lin et al., "Dual-Balancing for Multi-Task Learning", 2023 (arXiv 2308.12029).
    """

    def weigh(self, gramian: Tensor, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return the largest norm of a logarithm's gradient over the norm of each gradient."""
        del active
        norms = gramian.diagonal().clamp(min=0).sqrt()
        largest = (norms / losses.clamp(min=MIN_LOSS)).max()
        return torch.where(norms > 0, largest / norms.clamp(min=1e-12), 0.0)

    def weigh_heads(self, losses: Tensor, weights: Tensor) -> Tensor:
        """Return the derivatives of the logarithms."""
        del weights
        return 1 / losses.clamp(min=MIN_LOSS)
