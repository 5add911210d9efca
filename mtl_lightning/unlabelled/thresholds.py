"""The least confidence of a guess, by class."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_UNIT = 2**20
"""Confidences are added up in integers, whose sum does not depend on ranks or micro-batches."""


class Thresholds:
    """The least confidence of a guess: the same for all classes, or lower for those that are hard.

    FlexMatch (Zhang et al. 2021) lowers the threshold of a class of which few guesses are
    confident. It counts these guesses, and so also lowers that of a class that is merely rare. Here
    it is lowered by how confident guesses of the class are: the mean over all guesses of it in the
    epoch before, relative to the class where it is highest. In the first epoch, and for a class
    that is never guessed, it is the one given.

    Args:
        threshold: The highest, 0..1.
        adaptive: Whether those of the classes differ.
        classes: Task to its number of classes; those without any are left out.
        device: Where guesses are.
    """

    def __init__(
        self, threshold: float, adaptive: bool, classes: Mapping[str, int], device: torch.device
    ) -> None:
        self.threshold = threshold
        self.adaptive = adaptive
        self._current = {
            task: torch.full((number,), threshold, device=device)
            for task, number in classes.items()
        }
        self._counts = {task: _zeros(number, device) for task, number in classes.items()}
        self._sums = {task: _zeros(number, device) for task, number in classes.items()}

    def of(self, task: str, classes: Tensor) -> Tensor:
        """Return the threshold of each guessed class, in the shape of ``classes`` (int64)."""
        return self._current[task][classes]

    def add(self, task: str, classes: Tensor, confidence: Tensor, mask: Tensor) -> None:
        """Count the guesses of a micro-batch, confident or not.

        Args:
            task: The task.
            classes: int64, the classes guessed.
            confidence: 0..1, in the same shape.
            mask: bool, which of them count.
        """
        numbers, counted = classes.flatten(), mask.flatten().long()
        units = (confidence.flatten().double() * _UNIT).round().long() * counted
        self._counts[task].index_add_(0, numbers, counted)
        self._sums[task].index_add_(0, numbers, units)

    def end_epoch(self) -> None:
        """Set the thresholds of the next epoch, the same on all ranks."""
        for task in self._current:
            counts, sums = over_ranks(self._counts[task]), over_ranks(self._sums[task])
            if self.adaptive and bool(counts.any()):
                means = sums.double() / counts.clamp(min=1) / _UNIT
                relative = torch.where(counts > 0, means / means.max(), 1.0)
                self._current[task] = (self.threshold * relative).float()
            self._counts[task].zero_()
            self._sums[task].zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores: thresholds, and the guesses of all ranks so far."""
        return {
            "current": {task: own.cpu() for task, own in self._current.items()},
            "counts": {task: over_ranks(own).cpu() for task, own in self._counts.items()},
            "sums": {task: over_ranks(own).cpu() for task, own in self._sums.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any], first_rank: bool) -> None:
        """Restore them; the guesses so far are continued on the first rank."""
        for task, own in self._current.items():
            own.copy_(state["current"][task])
            if first_rank:
                self._counts[task].copy_(state["counts"][task])
                self._sums[task].copy_(state["sums"][task])


def over_ranks(values: Tensor) -> Tensor:
    """Return the sum of integers over all ranks, in a new tensor."""
    total = values.clone()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
    return total


def _zeros(number: int, device: torch.device) -> Tensor:
    return torch.zeros(number, dtype=torch.int64, device=device)
