"""Made-up backbones, sharings and networks, small and smooth enough for exact comparisons."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtl_lightning.models import (
    Backbone,
    Hard,
    HeadOptions,
    NamedModules,
    Network,
    Sharing,
    build_head,
)
from mtl_lightning.models.features import POOLED, Features, FeatureSpec
from mtl_lightning.models.heads import HeadFactory
from mtl_lightning.models.inputs import IMAGE, Inputs, InputSpecs, image_input
from mtl_lightning.models.weights import LoadReport, NamedWeights
from mtl_lightning.system.errors import UserError


class Small(Backbone):
    """Two convolutions: fast, smooth, without batch norm."""

    def __init__(self) -> None:
        trunk = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2), nn.Tanh(), nn.Conv2d(6, 8, 3, stride=2), nn.Tanh()
        )
        super().__init__(trunk, {"all": list(trunk)}, None, "imagenet", "avg", None)

    def named_weights(self, name: str) -> NamedWeights:
        raise NotImplementedError


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


class ThreeStages(Backbone):
    def __init__(self, weights=None, pooling="avg", trainable_from=None, scheme="imagenet") -> None:
        trunk = Trunk()
        stages = {"a": [trunk.a], "b": [trunk.b], "c": [trunk.c]}
        super().__init__(trunk, stages, weights, scheme, pooling, trainable_from)

    def named_weights(self, name: str) -> NamedWeights:
        tensors = {k: torch.full_like(v, 2) for k, v in Trunk().state_dict().items()}
        return NamedWeights(tensors, f"ThreeStages {name}", [0.5] * 3, [0.5] * 3)


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


def heads_of(outputs: Mapping[str, int], **options: Any) -> dict[str, HeadFactory]:
    """Return what makes the usual heads, by task."""
    settings = HeadOptions(**options)
    return {t: partial(build_head, num_outputs=n, options=settings) for t, n in outputs.items()}


def make_network(
    sharing: Sharing,
    backbone: Backbone,
    outputs: Mapping[str, int],
    size: tuple[int, int],
    **options: Any,
) -> Network:
    return Network(sharing, backbone, heads_of(outputs, **options), image_input(size))


def pooled_of(module: Backbone, images: Tensor) -> Tensor:
    """Return the pooled features (B, F) of images."""
    features: Tensor = module({IMAGE: images})[POOLED]
    return features


def width_of(module: Backbone | Sharing, size: tuple[int, int]) -> int:
    """Return F of images of (height, width) pixels."""
    return module.describe(image_input(size)).pooled


class Layered(Backbone):
    """Layers of several kinds."""

    def __init__(
        self, norm: str = "group", train_norm: bool = False, loose: bool = False, first: bool = True
    ) -> None:
        torch.manual_seed(1)
        norms = {"group": lambda: nn.GroupNorm(2, 6), "batch": lambda: nn.BatchNorm2d(6)}
        trunk = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            norms[norm](),
            nn.Tanh(),
            nn.Conv2d(6, 6, 3, groups=2, bias=False, padding_mode="reflect", padding=1),
            nn.Tanh(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            Loose() if loose else nn.Identity(),
            nn.Tanh(),
        )
        stages = {"first": [trunk[0]], "rest": list(trunk)[1:]}
        super().__init__(trunk, stages, None, "imagenet", "gem", None if first else "rest")
        self.train_norm = train_norm
        self.train()

    def train(self, mode: bool = True) -> "Layered":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and not getattr(self, "train_norm", True):
                module.eval()
        return self

    def named_weights(self, name: str) -> NamedWeights:
        raise UserError(f"there are no weights called {name}")


LAYERED = {
    "rows": {"norm": "group"},
    "frozen batch norm": {"norm": "batch"},
    "first stage frozen": {"norm": "group", "first": False},
    "label_sets": {"norm": "group", "loose": True},
    "tasks": {"norm": "batch", "train_norm": True},
}
"""Arguments of `Layered`; two are named after the mode in which its gradients are computed."""


class Loose(nn.Module):
    """A parameter outside of any layer: its module has a child."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        self.inner = nn.Conv2d(8, 8, 1)

    def forward(self, maps: Tensor) -> Tensor:
        scaled: Tensor = self.inner(maps).transpose(0, 1) * self.scale[:, None, None, None]
        return scaled.transpose(0, 1)


class Adapters(Hard):
    """A linear layer for each task between the backbone, which all share, and its head."""

    def attach(self, backbone: Backbone, tasks: Sequence[str]) -> None:
        super().attach(backbone, tasks)
        width = width_of(backbone, (16, 16))
        self.adapters = NamedModules({task: nn.Linear(width, width) for task in tasks})

    def forward(self, inputs: Inputs, rows: Any = None) -> dict[str, Features]:
        features = super().forward(inputs, rows)
        return {t: {POOLED: layer(features[t][POOLED])} for t, layer in self.adapters.items()}

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        return list(self.adapters[task].parameters())


class Opaque(Adapters):
    """The same, without saying that all tasks' features come from one backbone."""

    shared_backbone = None


class Bottleneck(Adapters):
    """The same, with a layer between backbone and adapters that all tasks share."""

    def attach(self, backbone: Backbone, tasks: Sequence[str]) -> None:
        super().attach(backbone, tasks)
        width = width_of(backbone, (16, 16))
        self.middle = nn.Linear(width, width)

    def forward(self, inputs: Inputs, rows: Any = None) -> dict[str, Features]:
        features = self.middle(self.backbone(inputs)[POOLED]).tanh()
        return {task: {POOLED: layer(features)} for task, layer in self.adapters.items()}


class Interleaved(Sharing):
    """A scale of each task's own within the backbone: its own parameters lie deepest."""

    def attach(self, backbone: Backbone, tasks: Sequence[str]) -> None:
        self.backbone = backbone
        self.scales = NamedModules({task: Scale() for task in tasks})

    def describe(self, inputs: InputSpecs) -> FeatureSpec:
        self.backbone.require_stages(inputs)
        return self.backbone.describe(inputs)

    def load_pretrained(self) -> LoadReport | None:
        return None

    def forward(
        self, inputs: Inputs, rows: Mapping[str, Tensor] | None = None
    ) -> dict[str, Features]:
        del rows
        first, *rest = [part for stage in self.backbone.stages.values() for part in stage]
        begun = first(self.backbone.prepare(inputs))
        features: dict[str, Features] = {}
        for task, scale in self.scales.items():
            values = scale(begun)
            for part in rest:
                values = part(values)
            features[task] = self.backbone.collect({self.backbone.last_stage: values})
        return features

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
