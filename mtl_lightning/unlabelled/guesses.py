"""Guessed targets of a micro-batch, and their share of the loss of the whole step."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mtl_lightning.data.batch import Batch
from mtl_lightning.models.members import repeated
from mtl_lightning.tasks import Task


@dataclass(frozen=True)
class Guesses:
    """Targets for cells without a label. They are no labels: nothing counts or measures them.

    Attributes:
        targets: Task to ``(B, ...)``, as its loss reads them; tasks without guesses are left out.
        weights: Task to the factor of the loss of each slot, floating, the shape of the losses; 0
            where there is no guess, which includes all labelled slots.
    """

    targets: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]

    def masks(self, batch: Batch) -> dict[str, Tensor]:
        """Return, by task, the mask of slots that have a label or a guess."""
        return {
            name: labelled | (self.weights[name] > 0) if name in self.weights else labelled
            for name, labelled in batch.labelled.items()
        }

    def shares(
        self, tasks: Mapping[str, Task], outputs: Mapping[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Return this rank's and micro-batch's share of the loss of each task's guesses.

        The loss of a step is the weighted sum over its guesses, divided by the number of its
        unlabelled slots: those without a guess lower it (Sohn et al. 2020, eq. 4). The step plan
        knows that number, so that it is the same on every rank.

        Args:
            tasks: The tasks by name.
            outputs: Task to ``(B, num_outputs)``.
            batch: The micro-batch, with the counts of the whole step.
        """
        shares = {}
        for name, weights in self.weights.items():
            members, (targets, own) = repeated(outputs[name], self.targets[name], weights)
            losses = tasks[name].slot_losses(outputs[name], targets, own > 0)
            factor = tasks[name].weight * batch.gradient_divisor
            factor /= max(unlabelled_slots(batch, name), 1) * members
            shares[name] = (losses * own.to(losses.dtype)).sum() * factor
        return shares


def unlabelled_slots(batch: Batch, task: str) -> int:
    """Return the number of slots of a task without a label in the whole step."""
    per_row = batch.labelled[task].shape[1:].numel()
    return batch.step_rows * per_row - batch.counts[task]
