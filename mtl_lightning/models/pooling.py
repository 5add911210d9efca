"""Pooling of feature maps (B, C, H, W) to features (B, F)."""

from typing import Literal

import torch
from torch import Tensor, nn

from mtl_lightning.system.errors import UserError, did_you_mean, listed

PoolingName = Literal["max", "avg", "gem", "flatten"]


class MaxPooling(nn.Module):
    """Global maximum: (B, C, H, W) to (B, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maximum of each channel."""
        # Unlike adaptive_max_pool2d, amax has a deterministic backward on CUDA.
        return maps.amax(dim=(2, 3))


class AvgPooling(nn.Module):
    """Global mean: (B, C, H, W) to (B, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the mean of each channel."""
        return maps.mean(dim=(2, 3))


class GeMPooling(nn.Module):
    """Generalised mean with a learnable exponent: (B, C, H, W) to (B, C).

    ``mean(x ** p) ** (1 / p)``: p = 1 is the mean, a large p approaches the maximum. One p for all
    channels, 3 at the start. Radenovic, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No
    Human Annotation", TPAMI 2018.
    """

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([3.0]))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the generalised mean of each channel; values under 1e-6 count as 1e-6."""
        return maps.clamp(min=1e-6).pow(self.p).mean(dim=(2, 3)).pow(1.0 / self.p)


class Flatten(nn.Module):
    """No pooling: (B, C, H, W) to (B, C * H * W), which depends on the image size."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return all values of the map, channel by channel."""
        return maps.flatten(1)


_POOLINGS: dict[str, type[nn.Module]] = {
    "max": MaxPooling,
    "avg": AvgPooling,
    "gem": GeMPooling,
    "flatten": Flatten,
}


def pooling_layer(name: str) -> nn.Module:
    """Build the pooling layer called ``name``.

    Raises:
        UserError: If there is no such pooling.
    """
    if name not in _POOLINGS:
        raise UserError(
            f'pooling should be one of {listed(_POOLINGS)}. Found "{name}"'
            f"{did_you_mean(name, _POOLINGS)}"
        )
    return _POOLINGS[name]()
