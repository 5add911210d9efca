"""Finds out, by trying it, how the gradients of single rows can be had from a backbone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_lightning.balancing.gradients.per_row import Groups, recording
from mtl_lightning.balancing.ranks import same_draws
from mtl_lightning.models import Backbone

Way = Literal["rows", "sets", "tasks"]
"""``rows``: one pass for tasks that share no row. ``sets``: images do not mix, so that those with
the same labels can go through the network apart. ``tasks``: a backward pass of all rows a task."""


@dataclass(frozen=True)
class Found:
    """What the trial found: the cheapest exact way, and why it is no cheaper."""

    way: Way
    reason: str = ""


def try_rows(backbone: Backbone, image_size: tuple[int, int]) -> Found:
    """Compare gradients of single rows with those that a plain backward pass gives.

    Three random images; leaves neither statistics nor generators changed. Dropout is switched off
    for it, batch norm is as it is.

    Args:
        backbone: As it is trained.
        image_size: (height, width) in pixels.
    """
    mixing = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, _BatchNorm) and module.training
    ]
    if mixing:
        return Found("tasks", f"batch norm ({mixing[0]}) mixes the images of a batch")
    own = [p for p in backbone.parameters() if p.requires_grad]
    device = backbone.preprocessing.mean.device
    with _as_in_trial(backbone), same_draws(0, device), torch.enable_grad():
        images = torch.randint(0, 256, (3, 3, *image_size), device=device, dtype=torch.uint8)
        features = backbone(images)
        above = torch.rand_like(features) + 0.5
        expected = [_gradients(features[row], own, above[row]) for row in range(3)]
        alone = backbone(images[1:2])
        if not _same(_gradients(alone[0], own, above[1]), expected[1]):
            return Found("tasks", f"{backbone.title} mixes the images of a batch")
        if _recorded(backbone, images, above, own, expected):
            return Found("rows")
    return Found("sets", f"{backbone.title} has trained weights outside of its layers")


def _recorded(
    backbone: Backbone,
    images: Tensor,
    above: Tensor,
    own: Sequence[nn.Parameter],
    expected: list[list[Tensor]],
) -> bool:
    found: dict[tuple[nn.Parameter, int], Tensor] = {}

    def add(parameter: nn.Parameter, row: int, gradient: Tensor) -> None:
        before = found.get((parameter, row))
        found[parameter, row] = gradient if before is None else before + gradient

    groups = Groups(add)
    groups.rows = [(0, slice(0, 1)), (1, torch.tensor([1], device=images.device)), (2, slice(2, 3))]
    try:
        with recording(backbone, groups):
            features = backbone(images)
        torch.autograd.grad(features, own, above, allow_unused=True)
    except (RuntimeError, TypeError, ValueError, IndexError):  # not one tensor of rows
        return False
    return all(
        _same([found.get((p, row), torch.zeros_like(p)) for p in own], expected[row])
        for row in range(3)
    )


def _gradients(outputs: Tensor, own: Sequence[nn.Parameter], above: Tensor) -> list[Tensor]:
    parts = torch.autograd.grad(outputs, own, above, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(own, parts, strict=True)]


def _same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether gradients agree, tensor by tensor, up to the rounding of their precision."""
    whole = torch.stack([b.norm() for b in other]).norm()
    for a, b in zip(one, other, strict=True):
        rounding = 1e-3 if a.dtype in (torch.float32, torch.float64) else 0.05
        if not (a - b).norm() <= rounding * b.norm() + 1e-6 * whole:
            return False
    return True


@contextmanager
def _as_in_trial(backbone: Backbone) -> Iterator[None]:
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        with torch.autocast(backbone.preprocessing.mean.device.type, enabled=False):
            yield
    finally:
        for module, training in modes:
            module.training = training
