"""Steps with a loss or gradient that is not finite are not made: weights stay unchanged."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from mtl_lightning.data.batch import PADDING, Batch
from mtl_lightning.system.errors import listed
from mtl_lightning.tasks import Task


@dataclass(frozen=True)
class MicroBatchResult:
    """The outputs and losses of a micro-batch.

    Attributes:
        batch: The micro-batch.
        outputs: Task to ``(B, num_outputs)``, detached.
        sums: Task to its loss summed over its terms, a scalar, detached.
    """

    batch: Batch
    outputs: Mapping[str, Tensor]
    sums: Mapping[str, Tensor]


def is_finite(
    results: list[MicroBatchResult], parameters: list[nn.Parameter], scaled: bool, trainer: Trainer
) -> bool:
    """Whether every loss and gradient of an optimizer step is finite, the same on all ranks.

    Args:
        results: The micro-batches of the step, on this rank.
        parameters: The optimizer's parameters.
        scaled: Whether gradients are scaled float16, which the scaler checks itself.
        trainer: The trainer whose ranks have to agree.
    """
    every = (
        torch.stack([loss for micro in results for loss in micro.sums.values()]).isfinite().all()
    )
    if not scaled:
        every = every & has_finite_gradients(parameters)
    finite = bool(every)  # the only synchronisation of this check
    return trainer.strategy.reduce_boolean_decision(finite) if trainer.world_size > 1 else finite


def has_finite_gradients(parameters: list[nn.Parameter]) -> Tensor | Literal[True]:
    """Whether all gradients are finite, without synchronising with the device."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients).isfinite() if gradients else True


def explain(
    results: list[MicroBatchResult],
    tasks: Mapping[str, Task],
    network: nn.Module,
    name_of: Callable[[int], str],
) -> str:
    """Describe which task's loss is not finite, and for which images; the same on all ranks.

    Args:
        results: The micro-batches of the step, on this rank.
        tasks: The tasks by name.
        network: The network with the gradients of the step.
        name_of: Maps a row of the merged table to the name that the user knows.
    """
    message = _first_of_ranks(_of_losses(results, tasks, name_of) or _of_gradients(network))
    return message or "a gradient is not finite"


def _of_losses(
    results: list[MicroBatchResult], tasks: Mapping[str, Task], name_of: Callable[[int], str]
) -> str | None:
    for name, task in tasks.items():
        for micro in results:
            value = float(micro.sums[name])
            if math.isfinite(value):
                continue
            rows = micro.batch.rows[_culprits(task, name, micro)]
            images = [name_of(int(row)) for row in rows if row != PADDING]
            return f"the loss of task {name} is {value} for {listed(images, limit=3)}"
    return None


def _culprits(task: Task, name: str, micro: MicroBatchResult) -> Tensor:
    """Return the rows of a micro-batch whose loss is not finite, or all labelled rows."""
    labelled = micro.batch.labelled[name]
    bad = torch.zeros(len(labelled), dtype=torch.bool, device=labelled.device)
    for row in range(len(labelled)):
        own = slice(row, row + 1)
        loss = task.step_loss(
            micro.outputs[name][own], micro.batch.targets[name][own], labelled[own]
        )
        bad[row] = ~loss.isfinite()
    return bad if bad.any() else labelled.flatten(1).any(1) if labelled.ndim > 1 else labelled


def _of_gradients(network: nn.Module) -> str | None:
    for name, parameter in network.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"the gradient of {name} is not finite, though the losses are"
    return None


def _first_of_ranks(message: str | None) -> str | None:
    if not torch.distributed.is_initialized():
        return message
    everywhere: list[str | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everywhere, message)
    # A rank whose own losses are finite got the gradient of one whose losses are not.
    return min((text for text in everywhere if text), key=lambda text: "gradient" in text)
