"""Backbones with stages that can be frozen, pretrained weights, and batch norm."""

from typing import Any

import torch
from torch import Tensor, nn

from mtl_lightning.models.backbones import Backbone
from mtl_lightning.models.weights import NamedWeights
from mtl_lightning.training.module import MultiTask
from tests.helpers.support import make_tasks

IMAGES = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))  # in no stage, like a position embedding
        self.a = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.b = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5))
        self.c = nn.Conv2d(5, 6, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.c(self.b(self.a(images + self.offset)))


class Small(Backbone):
    def __init__(self, weights=None, pooling="avg", trainable_from=None, scheme="imagenet") -> None:
        trunk = Trunk()
        stages = {"a": [trunk.a], "b": [trunk.b], "c": [trunk.c]}
        super().__init__(trunk, stages, weights, scheme, pooling, trainable_from)

    def named_weights(self, name: str) -> NamedWeights:
        tensors = {k: torch.full_like(v, 2) for k, v in Trunk().state_dict().items()}
        return NamedWeights(tensors, f"Small {name}", [0.5] * 3, [0.5] * 3)


def trainable(backbone: Backbone) -> set[str]:
    return {n.split(".")[1] for n, p in backbone.named_parameters() if p.requires_grad}


class Staged(Backbone):
    """Two stages with batch norm, pretrained weights (all 0.01), and freezing."""

    def __init__(self, trainable_from: str | None = None, weights: str | None = None) -> None:
        layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3)]
        trunk = nn.Sequential(*layers)
        stages = {"low": layers[:3], "high": layers[3:]}
        super().__init__(trunk, stages, weights, "imagenet", "avg", trainable_from)

    def named_weights(self, name: str) -> NamedWeights:
        tensors = {k: torch.full_like(v, 0.01) for k, v in self.trunk.state_dict().items()}
        return NamedWeights(tensors, name)


def staged(
    trainable_from: str | None = None, weights: str | None = None, **arguments: Any
) -> MultiTask:
    torch.manual_seed(0)
    return MultiTask(
        make_tasks(), Staged(trainable_from, weights), dropout=0.0, image_size=16, **arguments
    )
