"""Made-up backbones and sharings, small and smooth enough for exact comparisons."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtl_lightning.models import Backbone, Hard, NamedModules, Sharing
from mtl_lightning.models.features import POOLED, Features, FeatureSpec
from mtl_lightning.models.inputs import Inputs, InputSpecs
from mtl_lightning.models.weights import LoadReport, NamedWeights
from mtl_lightning.system.errors import UserError
from tests.helpers.networks import width_of


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
