"""How K losses become one update, and how to add a way.

Adding a method: one file here with one class, one line in ``__init__.py``, one test file.

1. Derive from `LossBalancing` where the values of the losses are all it reads (one backward pass,
   the price of a plain step), else from `GradientBalancing`. The constructor takes the method's
   own settings alone (explicit and annotated), which a config names.
2. Implement `LossBalancing.combine`, or `GradientBalancing.weigh`. Both are shown the tasks that
   have a label in the step, and no other: ``present`` are their numbers. What was not asked this
   time is not there, rather than 0.
3. Keep what is remembered in ``self.state``, tensors whose leading axes are tasks; name them in
   `Balancing.initial_state`. Read and write the rows of ``present`` alone. It is then in every
   checkpoint, by the names of the tasks.
4. A task that is alone in a step should move as it would beside others: where the weights that a
   method gives have a constant sum, multiply by ``len(present) / len(self.tasks)``.

Both kinds see the values of the *whole* step, equal on every rank: they compute the same there.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Balancing:
    """What every method has in common: the tasks, and what it remembers of them.

    Attributes:
        tasks: Their names, in the order of the rows and numbers that methods see.
        state: Name to tensor; the leading axes are tasks.
    """

    accumulates: bool = False
    """Whether the parts of a step add up to the step: the weights do not depend on its losses."""

    task_axes: Mapping[str, int] = {}
    """How many leading axes of a tensor of the state are tasks; 1 where it is not named."""

    def __init__(self) -> None:
        self.tasks: tuple[str, ...] = ()
        self.state: dict[str, Tensor] = {}

    @property
    def title(self) -> str:
        """What messages call it."""
        return type(self).__name__

    def attach(self, tasks: Sequence[str]) -> None:
        """Take the names of the tasks, once, before anything else is called.

        Raises:
            UserError: If the method's settings do not fit them.
        """
        self.tasks = tuple(tasks)

    def begin(self, device: torch.device, dtype: torch.dtype) -> None:
        """Forget an earlier training.

        Args:
            device: Where losses are computed.
            dtype: Of the state, float32 or float64.
        """
        self.state = {
            name: value.to(device=device, dtype=dtype, copy=True)
            for name, value in self.initial_state().items()
        }

    def initial_state(self) -> dict[str, Tensor]:
        """Return what is remembered when a training begins."""
        return {}

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return, by task, what the optimizer is to learn."""
        return {}

    def epoch_end(self, scores: Mapping[str, float]) -> None:
        """Take note that an epoch is over.

        Args:
            scores: Task to its primary metric over the epoch's training labels, mapped to 0..1;
                without the tasks that had none.
        """
        del scores

    def state_dict(self) -> dict[str, Any]:
        """Return the state as a checkpoint keeps it."""
        return {"tasks": list(self.tasks), "state": {n: v.cpu() for n, v in self.state.items()}}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take the state of a checkpoint, whatever the order of the tasks was there."""
        order = torch.tensor([saved["tasks"].index(task) for task in self.tasks])
        for name, value in saved["state"].items():
            ordered = value
            for axis in range(self.task_axes.get(name, 1)):
                ordered = ordered.index_select(axis, order)
            like = self.state.get(name, ordered)
            self.state[name] = ordered.to(device=like.device, dtype=like.dtype)


class LossBalancing(Balancing, ABC):
    """A method that reads the losses: their combination is differentiated as any loss."""

    reads_values: bool = True
    """Whether the weights depend on the losses; if not, ranks need not tell each other theirs."""

    draws: bool = False
    """Whether it draws random numbers; ranks are then made to draw the same."""

    looks_again: bool = False
    """Whether `seen_again` wants the losses of the same batch after the update."""

    @abstractmethod
    def combine(self, values: Tensor, present: Sequence[int]) -> Tensor:
        """Return a scalar whose derivative by the losses are the weights of their gradients.

        Args:
            values: (n,) the losses of the whole step, for each task with a label in it.
            present: The numbers of these tasks.
        """

    def seen_again(self, values: Tensor, present: Sequence[int]) -> None:
        """Take the same losses after the update, where ``looks_again``."""


class GradientBalancing(Balancing, ABC):
    """A method that reads the inner products of the tasks' gradients."""

    rows_wanted: bool = False
    """Whether the inner products are not enough: then `aggregate` is called instead."""

    columns_apart: bool = False
    """Whether `aggregate` may be given the matrix in pieces, column by column."""

    @abstractmethod
    def weigh(self, gramian: Tensor, values: Tensor, present: Sequence[int]) -> Tensor:
        """Return the weights of the tasks' gradients with respect to what they share.

        Args:
            gramian: (n, n) inner products of the gradients, on the CPU.
            values: (n,) the losses of the whole step, on the CPU.
            present: The numbers of these tasks.

        Returns:
            (n,) weights.
        """

    def weigh_heads(self, values: Tensor, weights: Tensor) -> Tensor:
        """Return what each head's own gradient is multiplied by: (n,); by default ones.

        Args:
            values: (n,) the losses of the whole step.
            weights: (n,) what `weigh` returned.
        """
        del values
        return torch.ones_like(weights)

    def aggregate(self, matrix: Tensor, present: Sequence[int]) -> Tensor:
        """Return the (P,) update from the (n, P) gradients, where ``rows_wanted``."""
        del matrix, present
        raise NotImplementedError(f"{self.title} sets rows_wanted, so it has to say `aggregate`")
