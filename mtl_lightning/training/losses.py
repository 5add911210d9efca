"""Each task's loss of a micro-batch, and its share of the loss of the whole optimizer step."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from mtl_lightning.data.batch import Batch
from mtl_lightning.models.members import repeated
from mtl_lightning.tasks import Task

LossReduction = Literal["labelled", "batch"]
"""``labelled``: a task's loss is the mean over its labelled rows in the step. ``batch``: the sum is
divided by all rows of the step, as a mean over zero-filled labels does (the Keras recipe)."""


def summed_losses(
    tasks: Mapping[str, Task], outputs: Mapping[str, Tensor], batch: Batch
) -> dict[str, Tensor]:
    """Return each task's loss, summed over its terms: see `Task.step_loss`.

    If outputs are those of members of an ensemble, it is the mean over members.
    """
    sums = {}
    for name, task in tasks.items():
        slots = batch.targets[name], batch.labelled[name]
        members, (targets, labelled) = repeated(outputs[name], *slots)
        loss = task.step_loss(outputs[name], targets, labelled)
        sums[name] = loss if members == 1 else loss / members
    return sums


def loss_shares(
    tasks: Mapping[str, Task], sums: Mapping[str, Tensor], batch: Batch, reduction: LossReduction
) -> dict[str, Tensor]:
    """Return this rank's and micro-batch's share of each task's loss in the whole step.

    The trainer averages over ranks and micro-batches, and the mean of these shares is the loss.

    Args:
        tasks: The tasks by name.
        sums: The result of `summed_losses`.
        batch: The micro-batch, with the counts of the whole step.
        reduction: Which rows are counted.
    """
    shares = {}
    for name, task in tasks.items():
        if reduction == "labelled":
            rows = batch.counts[name]
        else:  # counts cells in a multi-label task
            rows = batch.step_rows * batch.labelled[name].shape[1:].numel()
        shares[name] = sums[name] * (task.weight * batch.gradient_divisor / max(rows, 1))
    return shares
