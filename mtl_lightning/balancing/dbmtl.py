"""DB-MTL: losses by their logarithm, gradients by their norm."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_lightning.balancing.base import GradientBalancing
from mtl_lightning.balancing.torchjd.scalarizers import SMALLEST


class DBMTL(GradientBalancing):
    """Brings the gradients of the losses' logarithms to the norm of the largest of them.

    Heads follow the logarithm of their loss. This is the method without its moving average of the
    gradients (beta 0): that would be K more copies of the network in memory and checkpoints.

    Lin et al., "Dual-Balancing for Multi-Task Learning", 2023 (arXiv 2308.12029).
    """

    def weigh(self, gramian: Tensor, values: Tensor, present: Sequence[int]) -> Tensor:
        """Return the largest norm of a logarithm's gradient over the norm of each gradient."""
        del present
        norms = gramian.diagonal().clamp(min=0).sqrt()
        largest = (norms / values.clamp(min=SMALLEST)).max()
        return torch.where(norms > 0, largest / norms.clamp(min=1e-12), 0.0)

    def weigh_heads(self, values: Tensor, weights: Tensor) -> Tensor:
        """Return the derivative of the logarithm."""
        del weights
        return 1 / values.clamp(min=SMALLEST)
