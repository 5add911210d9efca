"""The rows of a task that a person should look at: the worst mistakes and most doubtful answers."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Reviewable(ABC):
    """Says how wrong and how doubtful the answers of a task are.

    By default the worst mistakes are the rows with the highest loss, and no answer is doubtful.
    """

    @abstractmethod
    def slot_losses(self, outputs: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
        """Return the loss of each labelled row (or cell), see `Task.slot_losses`."""

    def mistakes(self, outputs: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
        """Return how wrong each answer is: ``(B,)``, 0 for those that are right.

        Args:
            outputs: ``(B, ...)`` outputs of rows with any label.
            targets: ``(B, ...)``, undefined where nothing is labelled.
            labelled: bool, the shape of the losses.
        """
        return mean_of_labelled(self.slot_losses(outputs, targets, labelled), labelled)

    def doubts(self, outputs: Tensor) -> Tensor | None:
        """Return how doubtful each answer is, ``(B,)``; None if the task does not know."""
        del outputs
        return None


def mean_of_labelled(values: Tensor, labelled: Tensor) -> Tensor:
    """Return the mean over the labelled cells of each row, ``(B,)``.

    Args:
        values: ``(B,)``, or ``(B, cells)``.
        labelled: bool, of the same shape.
    """
    known = torch.where(labelled, values, 0).flatten(1) if values.ndim > 1 else values[:, None]
    return known.sum(1) / labelled.reshape(len(values), -1).sum(1).clamp(min=1)
