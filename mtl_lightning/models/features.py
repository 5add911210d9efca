"""Features that heads read: named feature maps, and a vector pooled from the last."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

POOLED = "pooled"
"""The name of the pooled vector among the features; no stage can have it."""

Features = Mapping[str, Tensor]
"""The tensors that heads read, by name: ``pooled`` (B, F), and maps (B, C, h, w) by stage."""


@dataclass(frozen=True)
class MapSpec:
    """A feature map.

    Attributes:
        channels: C.
        size: Cells (h, w).
        stride: Pixels of the image per cell, vertically and horizontally.
    """

    channels: int
    size: tuple[int, int]
    stride: tuple[float, float]

    @classmethod
    def of(cls, values: Tensor, image_size: tuple[int, int]) -> "MapSpec":
        """Describe ``(B, C, h, w)``, computed from images of (height, width) pixels."""
        height, width = values.shape[2:]
        return cls(
            values.shape[1], (height, width), (image_size[0] / height, image_size[1] / width)
        )


@dataclass(frozen=True)
class FeatureSpec:
    """The features of images of one size.

    Attributes:
        pooled: F, the length of the vector that the backbone pools from its last map.
        last: The name of the last map.
        last_map: The last map.
        find_earlier: Returns the maps before it, in forward order. It runs the network, so it is
            called only when `maps` is first read, which most heads do not need.
        members: The members of the ensemble whose features the vector holds, one after another;
            each has F / members of them.
    """

    pooled: int
    last: str
    last_map: MapSpec
    find_earlier: Callable[[], Mapping[str, MapSpec]] = dict
    members: int = 1

    @cached_property
    def maps(self) -> dict[str, MapSpec]:
        """All maps, in forward order."""
        return {**self.find_earlier(), self.last: self.last_map}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a map, or of the pooled vector, for one image.

        Raises:
            KeyError: If there is no such map.
        """
        if name == POOLED:
            return (self.pooled,)
        found = self.last_map if name == self.last else self.maps[name]
        return (found.channels, *found.size)

    def names(self) -> list[str]:
        """Return the names of all features."""
        return [*self.maps, POOLED]

    def width(self, names: Iterable[str]) -> int:
        """Return how many numbers these features have for one image."""
        return sum(prod(self.shape(name)) for name in names)

    def unpack(self, packed: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Return the features that `pack` concatenated, ``(B, width)``."""
        names = list(names)
        shapes = [self.shape(name) for name in names]
        parts = torch.split(packed, [prod(shape) for shape in shapes], dim=1)
        return {n: part.reshape(-1, *s) for n, part, s in zip(names, parts, shapes, strict=True)}


def pack(features: Features) -> Tensor:
    """Concatenate features in their order, ``(B, width)``."""
    return torch.cat([values.flatten(1) for values in features.values()], dim=1)
