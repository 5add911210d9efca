"""Made-up sharings that put layers between backbone and heads."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtl_lightning.models import Backbone, Hard, NamedModules, Sharing
from mtl_lightning.models.weights import LoadReport


class Adapters(Hard):
    """A linear layer for each task between the backbone, which all share, and its head."""

    def attach(self, backbone: Backbone, tasks: Sequence[str]) -> None:
        super().attach(backbone, tasks)
        width = backbone.num_features((16, 16))
        self.adapters = NamedModules({task: nn.Linear(width, width) for task in tasks})

    def forward(self, images: Tensor, rows: Any = None) -> dict[str, Tensor]:
        features = super().forward(images, rows)
        return {task: layer(features[task]) for task, layer in self.adapters.items()}

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        return list(self.adapters[task].parameters())


class Opaque(Adapters):
    """The same, without saying that all tasks' features come from one backbone."""

    shared_backbone = None


class Bottleneck(Adapters):
    """The same, with a layer between backbone and adapters that all tasks share."""

    def attach(self, backbone: Backbone, tasks: Sequence[str]) -> None:
        super().attach(backbone, tasks)
        width = backbone.num_features((16, 16))
        self.middle = nn.Linear(width, width)

    def forward(self, images: Tensor, rows: Any = None) -> dict[str, Tensor]:
        features = self.middle(self.backbone(images)).tanh()
        return {task: layer(features) for task, layer in self.adapters.items()}


class Interleaved(Sharing):
    """A scale of each task's own between images and backbone: its own parameters lie deepest."""

    def attach(self, backbone: Backbone, tasks: Sequence[str]) -> None:
        self.backbone = backbone
        self.scales = NamedModules({task: Scale() for task in tasks})

    def num_features(self, image_size: tuple[int, int]) -> int:
        return self.backbone.num_features(image_size)

    def load_pretrained(self) -> LoadReport | None:
        return None

    def forward(
        self, images: Tensor, rows: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        del rows
        first, rest = self.backbone.trunk[0], self.backbone.trunk[1:]  # type: ignore[index]
        maps = first(self.backbone.preprocessing(images))
        return {task: self.backbone.pooling(rest(s(maps))) for task, s in self.scales.items()}

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        return list(self.scales[task].parameters())

    def penalty(self) -> Tensor | None:
        return torch.stack([p.square().sum() for p in self.parameters()]).sum()


class Scale(nn.Module):
    """A factor of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.linspace(0.5, 1.5, 6))

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.factor[:, None, None]
