"""A trial run that finds out how the gradients of single rows can be computed for a backbone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich import get_console
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_lightning.balancing.gradients.per_row import Groups, recording
from mtl_lightning.balancing.gradients.segments import Mode
from mtl_lightning.balancing.ranks import shared_seed
from mtl_lightning.models import Backbone
from mtl_lightning.models.dry_run import eval_mode
from mtl_lightning.models.inputs import Inputs, InputSpecs, examples, take_rows

_COST: dict[Mode, str] = {
    "label_sets": "rows with the same labels pass through it by themselves",
    "tasks": "each task needs a backward pass of all rows",
}


@dataclass(frozen=True)
class ProbeResult:
    """The cheapest exact mode, and the reason why no cheaper one is possible."""

    mode: Mode
    reason: str = ""


class BackboneProbe:
    """Probes a backbone, again only when other parameters are trained or a layer changes its mode.

    A mode that costs more than ``rows`` is explained on the console, once.
    """

    def __init__(self) -> None:
        self._state: object = None
        self._explained = ""
        self.result = ProbeResult("tasks")

    def __call__(self, backbone: Backbone, inputs: InputSpecs) -> ProbeResult:
        """Return the result for the backbone as it is now."""
        trained = tuple(p.requires_grad for p in backbone.parameters())
        state = trained, tuple(m.training for m in backbone.modules())
        if self._state != state:
            self._state = state
            self.result = probe_backbone(backbone, inputs) if any(trained) else ProbeResult("tasks")
            self._explain(self.result)
        return self.result

    def _explain(self, result: ProbeResult) -> None:
        if result.reason and result.reason != self._explained:
            self._explained = result.reason
            get_console().print(
                f"[yellow]note:[/] balancing: {result.reason}: {_COST[result.mode]}"
            )


def probe_backbone(backbone: Backbone, inputs: InputSpecs) -> ProbeResult:
    """Compare gradients of single rows with those of plain backward passes, on three random rows.

    Neither statistics nor generators change. Dropout is switched off, batch norm is as it is.

    Args:
        backbone: The backbone as it is trained.
        inputs: What it reads.
    """
    mixing = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, _BatchNorm) and module.training
    ]
    if mixing:
        return ProbeResult("tasks", f"batch norm ({mixing[0]}) mixes the images of a batch")
    trained = [p for p in backbone.parameters() if p.requires_grad]
    device = backbone.device
    plain = torch.autocast(device.type, enabled=False)
    with eval_mode(backbone), plain, shared_seed(0, device), torch.enable_grad():
        rows = examples(inputs, 3, device)
        features = _trained_features(backbone, rows)
        above = [torch.rand_like(values) + 0.5 for values in features]
        expected = [_gradients(features, above, row, row, trained) for row in range(3)]
        alone = _trained_features(backbone, take_rows(rows, torch.tensor([1], device=device)))
        if not _close(_gradients(alone, above, 0, 1, trained), expected[1]):
            return ProbeResult("tasks", f"{backbone.title} mixes the images of a batch")
        if _recording_is_exact(backbone, rows, above, trained, expected):
            return ProbeResult("rows")
    return ProbeResult("label_sets", f"{backbone.title} has trained weights outside of its layers")


def _recording_is_exact(
    backbone: Backbone,
    inputs: Inputs,
    above: list[Tensor],
    trained: Sequence[nn.Parameter],
    expected: list[list[Tensor]],
) -> bool:
    found: dict[tuple[nn.Parameter, int], Tensor] = {}

    def add(parameter: nn.Parameter, row: int, gradient: Tensor) -> None:
        before = found.get((parameter, row))
        found[parameter, row] = gradient if before is None else before + gradient

    groups = Groups(add)
    second = torch.tensor([1], device=backbone.device)
    groups.rows = [(0, slice(0, 1)), (1, second), (2, slice(2, 3))]
    try:
        with recording(backbone, groups):
            features = _trained_features(backbone, inputs)
        torch.autograd.grad(features, trained, above, allow_unused=True)
    except (RuntimeError, TypeError, ValueError, IndexError):  # a layer takes no tensor of rows
        return False
    return all(
        _close([found.get((p, row), torch.zeros_like(p)) for p in trained], expected[row])
        for row in range(3)
    )


def _trained_features(backbone: Backbone, inputs: Inputs) -> list[Tensor]:
    """Return the features that a gradient passes through: not the maps of frozen stages."""
    return [values for values in backbone(inputs).values() if values.requires_grad]


def _gradients(
    features: list[Tensor],
    above: list[Tensor],
    row: int,
    row_above: int,
    trained: Sequence[nn.Parameter],
) -> list[Tensor]:
    """Return the gradients that the derivatives of a row above give by a row of the features."""
    outputs = [values[row] for values in features]
    carried = [derivatives[row_above] for derivatives in above]
    parts = torch.autograd.grad(outputs, trained, carried, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(trained, parts, strict=True)]


def _close(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Return whether gradients agree, tensor by tensor, up to the rounding of their precision."""
    whole = torch.stack([b.norm() for b in other]).norm()
    for a, b in zip(one, other, strict=True):
        rounding = 1e-3 if a.dtype in (torch.float32, torch.float64) else 0.05
        if not (a - b).norm() <= rounding * b.norm() + 1e-6 * whole:
            return False
    return True
