"""How many guesses are right, measured on labelled validation cells."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl_lightning.tasks import Task
from mtl_lightning.unlabelled.thresholds import over_ranks

ERRORS = 2.0
"""Standard errors by which the accuracy of guesses has to fall: chance alone rarely explains it."""


class Quality:
    """Measures the guesses of each task, and turns them down where they get worse.

    Args:
        tasks: The tasks by name.
        device: Where guesses are.

    Attributes:
        factors: Task to the factor of the loss of its guesses: 1, halved each time that the
            accuracy is significantly below the best one so far.
    """

    def __init__(self, tasks: Mapping[str, Task], device: torch.device) -> None:
        self.factors = dict.fromkeys(tasks, 1.0)
        self._best: dict[str, tuple[int, int]] = {}
        self._right = {name: torch.zeros(2, dtype=torch.int64, device=device) for name in tasks}

    def add(self, task: str, right: Tensor, mask: Tensor) -> None:
        """Count guesses.

        Args:
            task: The task.
            right: bool, which guesses agree with labels.
            mask: bool, which of them count.
        """
        self._right[task] += torch.stack([(right & mask).sum(), mask.sum()])

    def end(self) -> tuple[dict[str, float], list[str]]:
        """Finish a validation; return values to be logged, and a note on what was turned down."""
        values, notes = {}, []
        for task, own in self._right.items():
            right, counted = over_ranks(own).tolist()
            own.zero_()
            if not counted:
                continue
            values[f"val/{task}/guess_accuracy"] = right / counted
            best = self._best.get(task, (right, counted))
            if right / counted >= best[0] / best[1]:
                self._best[task] = right, counted
            elif _is_below((right, counted), best):
                self.factors[task] /= 2
                notes.append(
                    f"model.unlabelled: guesses of {task} are right in {right / counted:.1%} of "
                    f"the validation cells ({best[0] / best[1]:.1%} before): their weight is now "
                    f"{self.factors[task]:g} of the initial one"
                )
        return values, notes

    def state_dict(self) -> dict[str, Any]:
        """Return the factors, and the best accuracies so far."""
        return {"factors": dict(self.factors), "best": dict(self._best)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""
        self.factors.update(state["factors"])
        self._best = {task: (right, counted) for task, (right, counted) in state["best"].items()}


def _is_below(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether a share (hits, trials) is below another by more than chance explains."""
    variance = 0.0
    for hits, trials in (one, other):
        share = (hits + 1) / (trials + 2)  # never 0 or 1, whose variance would be 0
        variance += share * (1 - share) / trials
    difference = other[0] / other[1] - one[0] / one[1]
    return bool(difference > ERRORS * variance**0.5)
