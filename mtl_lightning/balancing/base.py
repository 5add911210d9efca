"""How K losses become one update, and how to add a method.

Adding a method: one file here with one class, one line in ``__init__.py``, one test file.

1. Derive from `LossBalancingMethod` if it reads only the values of the losses (one backward pass,
   the cost of a plain step), else from `GradientBalancingMethod`. The constructor takes the
   method's own settings (explicit and annotated), as a config names them.
2. Implement `LossBalancingMethod.combine`, or `GradientBalancingMethod.weigh`. Both see only the
   active tasks, those with a label in the step: ``active`` holds their indices. An absent task is
   left out; nothing stands in for it, least of all a 0.
3. Keep what is remembered between steps in ``self.state``, tensors whose leading axes are tasks,
   named in `BalancingMethod.initial_state`. Read and write only the rows of ``active``.
   Checkpoints then hold the state by the names of the tasks.
4. A task that is the only active one should move as it does among others: if the weights that the
   method gives have a constant sum, multiply them by ``len(active) / len(self.tasks)``.

Both kinds see the values of the *whole* step, equal on every rank, and compute the same on each.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

MIN_LOSS = 1e-8
"""Losses below it count as it where a logarithm is taken: at 0 there is no direction."""


class BalancingMethod:
    """The common part of all methods: the tasks, and the state that is kept for them.

    Attributes:
        tasks: The tasks' names, in the order of the rows and values that methods see.
        state: Name to tensor; the leading axes are tasks.
    """

    task_axes: Mapping[str, int] = {}
    """The number of leading axes of a state tensor that are tasks; 1 for those not listed."""

    def __init__(self) -> None:
        self.tasks: tuple[str, ...] = ()
        self.state: dict[str, Tensor] = {}

    @property
    def title(self) -> str:
        """The method's name in messages and checkpoints."""
        return type(self).__name__

    def attach(self, tasks: Sequence[str]) -> None:
        """Take the names of the tasks, once, before anything else is called.

        Raises:
            UserError: If the method's settings do not fit them.
        """
        self.tasks = tuple(tasks)

    def begin(self, device: torch.device, dtype: torch.dtype) -> None:
        """Reset the state at the start of a training.

        Args:
            device: The device on which losses are computed.
            dtype: The dtype of the state, float32 or float64.
        """
        self.state = {
            name: value.to(device=device, dtype=dtype, copy=True)
            for name, value in self.initial_state().items()
        }

    def initial_state(self) -> dict[str, Tensor]:
        """Return the state at the start of a training."""
        return {}

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return, by task, the parameters that the optimizer should train."""
        return {}

    def epoch_end(self, scores: Mapping[str, float]) -> None:
        """Update the state at the end of an epoch.

        Args:
            scores: Task to its primary metric over the epoch's training labels, mapped to 0..1;
                without the tasks that had none.
        """
        del scores

    def state_dict(self) -> dict[str, Any]:
        """Return the state as a checkpoint stores it."""
        return {"tasks": list(self.tasks), "state": {n: v.cpu() for n, v in self.state.items()}}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint, whatever the order of its tasks."""
        order = torch.tensor([saved["tasks"].index(task) for task in self.tasks])
        for name, value in saved["state"].items():
            ordered = value
            for axis in range(self.task_axes.get(name, 1)):
                ordered = ordered.index_select(axis, order)
            like = self.state.get(name, ordered)
            self.state[name] = ordered.to(device=like.device, dtype=like.dtype)


class LossBalancingMethod(BalancingMethod, ABC):
    """A method that reads losses: it combines them into one, which is differentiated as usual."""

    reads_losses: bool = True
    """Whether the weights depend on the losses; if not, ranks need not exchange them."""

    stochastic: bool = False
    """Whether it draws random numbers; all ranks then draw the same."""

    supports_accumulation: bool = False
    """Whether micro-batches may be combined one by one, as if each were a step of its own."""

    needs_second_forward: bool = False
    """Whether `after_update` needs the losses of the same batch after the optimizer step."""

    @abstractmethod
    def combine(self, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return a scalar whose derivatives with respect to the losses are the tasks' weights.

        Args:
            losses: (n,) the active tasks' losses over the whole step.
            active: The indices of these tasks.
        """

    def after_update(self, losses: Tensor, active: Sequence[int]) -> None:
        """Take the same losses after the update; called only if ``needs_second_forward``."""


class GradientBalancingMethod(BalancingMethod, ABC):
    """A method that reads the inner products of the tasks' gradients."""

    needs_jacobian: bool = False
    """Whether the inner products are not enough: `aggregate` is then called instead of `weigh`."""

    columnwise: bool = False
    """Whether `aggregate` treats each column by itself, so that it may get the matrix in parts."""

    def begin(self, device: torch.device, dtype: torch.dtype) -> None:
        """Reset the state at the start of a training; it is on the CPU, in float64."""
        del device, dtype
        super().begin(torch.device("cpu"), torch.float64)

    @abstractmethod
    def weigh(self, gramian: Tensor, losses: Tensor, active: Sequence[int]) -> Tensor:
        """Return the weights of the tasks' gradients with respect to what they share.

        Args:
            gramian: (n, n) inner products of the gradients, on the CPU.
            losses: (n,) the active tasks' losses over the whole step, on the CPU.
            active: The indices of these tasks.

        Returns:
            (n,) weights.
        """

    def weigh_heads(self, losses: Tensor, weights: Tensor) -> Tensor:
        """Return the factors of the gradients of each task's own parameters: (n,), ones by default.

        Args:
            losses: (n,) the active tasks' losses over the whole step.
            weights: (n,) what `weigh` returned.
        """
        del losses
        return torch.ones_like(weights)

    def aggregate(self, jacobian: Tensor, active: Sequence[int]) -> Tensor:
        """Return the (P,) update from the (n, P) gradients; called only if ``needs_jacobian``."""
        del jacobian, active
        raise NotImplementedError(
            f"{self.title} sets needs_jacobian, so it should implement `aggregate`"
        )
