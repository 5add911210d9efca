"""What tests of methods share: the gradients of a step, ours and by plain autograd."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback
from torch import Tensor, nn

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.weights import NamedWeights
from mtl_lightning.system.errors import UserError
from mtl_lightning.training.module import MultiTask
from tests.helpers.support import fit, make_data, make_module, make_tasks


class Layered(Backbone):
    """Layers of several kinds, in float64 smooth enough for exact comparisons."""

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
            Scaled() if loose else nn.Identity(),
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


class Scaled(nn.Module):
    """A weight outside of any layer: its module has a child."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        self.inner = nn.Conv2d(8, 8, 1)

    def forward(self, maps: Tensor) -> Tensor:
        summed: Tensor = self.inner(maps).transpose(0, 1) * self.scale[:, None, None, None]
        return summed.transpose(0, 1)


class Gradients(Callback):
    """Keeps the gradients of the first step, and what is needed to compute them anew."""

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.batch = batch
            self.before = {n: p.detach().clone() for n, p in pl_module.named_parameters()}

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if not hasattr(self, "found"):
            self.found = {
                n: None if p.grad is None else p.grad.clone()
                for n, p in pl_module.network.named_parameters()
            }


def one_step(
    folder: Path,
    module: MultiTask,
    rows: int = 12,
    more: Sequence[Callback] = (),
    **trainer: Any,
) -> Gradients:
    """Take one step on ``rows`` images; all three tasks have labels among them."""
    gradients = Gradients()
    options = {"max_steps": 1, "max_epochs": -1, "precision": "64-true"} | trainer
    fit(
        folder,
        make_data(train=rows, batch_size=rows),
        module,
        callbacks=[gradients, *more],
        **options,
    )
    return gradients


def module_of(method: Any, backbone: Backbone | None = None, **options: Any) -> MultiTask:
    """Return a module with a method; what is learned moves by plain descent."""
    descent = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.05)}
    if backbone is None:
        return make_module(balancing=method, **(descent | options))
    torch.manual_seed(1)
    more = {"dropout": 0.0, "image_size": 16} | descent | options
    return MultiTask(make_tasks(), backbone, balancing=method, **more)


def reference(module: MultiTask, step: Gradients) -> dict[str, dict[str, Tensor]]:
    """Return, by plain autograd, each task's gradient by each parameter of the network."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(step.before[name])
    module.network.double().train()
    batch = step.batch
    outputs = module.network(batch.images)
    named = dict(module.network.named_parameters())
    found = {}
    for name, task in module.tasks.items():
        loss = task.masked_loss(outputs[name], batch.targets[name], batch.labelled[name])
        loss = loss * (task.weight / max(batch.counts[name], 1))
        trained = {n: p for n, p in named.items() if p.requires_grad}
        parts = torch.autograd.grad(
            loss, list(trained.values()), retain_graph=True, allow_unused=True
        )
        found[name] = {
            n: torch.zeros_like(trained[n]) if g is None else g
            for n, g in zip(trained, parts, strict=True)
        }
    return found


def shared_names(module: MultiTask) -> list[str]:
    """Return the names of what tasks share and is trained."""
    shared = set(module.network.shared_parameters())
    return [name for name, p in module.network.named_parameters() if p in shared]


def flat(gradients: dict[str, Tensor], names: list[str]) -> Tensor:
    """Return these gradients as one vector."""
    return torch.cat([gradients[name].flatten() for name in names])


def shared_rows(gradients: dict[str, dict[str, Tensor]]) -> Tensor:
    """Return the (K, P) gradients of what tasks share."""
    return torch.stack(
        [
            torch.cat([g.flatten() for n, g in own.items() if n.startswith("sharing.")])
            for own in gradients.values()
        ]
    )


def shared_update(step: Gradients) -> Tensor:
    """Return the (P,) gradient that a step gave what tasks share."""
    parts = [
        g.flatten() for n, g in step.found.items() if n.startswith("sharing.") and g is not None
    ]
    return torch.cat(parts)
