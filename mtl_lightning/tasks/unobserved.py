"""The part that cells without a label have in the training loss of many yes/no labels.

Only cells of rows with at least one label of the task can be assumed to be a no: in a row without
any, the question was not asked. An assumed cell is no label: it is in no count, weight, statistic
or metric, and evaluation is over labelled cells alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mtl_lightning.system.errors import UserError

Unobserved = Literal["ignore", "negative", "negative_smoothed"]
"""``ignore``: such a cell has no loss. ``negative``: it is assumed to be a no.
``negative_smoothed``: likewise, with targets moved towards 1/2, also of labelled cells (both Cole
et al. 2021, "Multi-Label Learning from Single Positive Labels", AN and AN-LS)."""


@dataclass(frozen=True)
class Assumption:
    """The targets of assumed cells.

    Args:
        unobserved: The decision, see `Unobserved`.
        smoothing: The smoothing of ``negative_smoothed``: half of it is the probability of the
            other answer.

    Raises:
        UserError: If the smoothing is out of range.
    """

    unobserved: Unobserved
    smoothing: float

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UserError(
                f"unobserved_smoothing should be in 0..1 (1 excluded). Found {self.smoothing}"
            )

    @property
    def ignores(self) -> bool:
        """Whether cells without a label have no loss."""
        return self.unobserved == "ignore"

    def smoothed(self, targets: Tensor) -> Tensor:
        """Return the targets of labelled cells."""
        if self.unobserved != "negative_smoothed":
            return targets
        return targets * (1 - self.smoothing) + self.smoothing / 2

    def losses(
        self, outputs: Tensor, labelled: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Return the loss of each assumed cell, and 0 for the others.

        Args:
            outputs: ``(B, L)`` logits in at least float32.
            labelled: The mask of labelled cells.
            loss: Returns the losses ``(B, L)`` of outputs and targets.

        Returns:
            ``(B, L)``.
        """
        losses = loss(outputs, self.smoothed(torch.zeros_like(outputs)))
        mask = labelled.any(1, keepdim=True) & ~labelled
        return torch.where(mask, losses, torch.zeros_like(losses))
