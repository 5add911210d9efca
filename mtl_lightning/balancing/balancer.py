"""The interface between the LightningModule and a balancing method: what happens in each step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from mtl_lightning.balancing.base import BalancingMethod
from mtl_lightning.data.batch import Batch
from mtl_lightning.models import Network
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.strategy import check_whole_weights


class Balancer(ABC):
    """Runs the steps of a training with a method; one subclass for each kind of method.

    The loss of a task is what the module makes of this rank's and micro-batch's rows of it: its
    mean over ranks and micro-batches is the loss of the whole step.

    Args:
        method: The method.
        tasks: The names of all tasks.

    Attributes:
        weights: Task to its weight in the last step that weighed it.
        gramian: The (n, n) inner products of the active tasks' gradients, without the trainer's
            scale, on the CPU; None if the last step computed none.
    """

    reads_gradients: bool = False
    """Whether it computes the tasks' gradients."""

    def __init__(self, method: BalancingMethod, tasks: Sequence[str]) -> None:
        self.method = method
        self.tasks = tuple(tasks)
        method.attach(tasks)
        self.weights: dict[str, float | Tensor] = {}
        self.gramian: Tensor | None = None
        self._saved: Mapping[str, Any] = {}
        self._restore: Callable[[], None] | None = None
        self._reset_averages()

    def _reset_averages(self) -> None:
        self._restore = None
        self._sums, self._steps = torch.zeros(len(self.tasks)), torch.zeros(len(self.tasks))

    def check(self, trainer: Trainer, network: Network) -> None:
        """Refuse, before training, combinations that would be wrong.

        Raises:
            UserError: Saying which, and what to change.
        """
        del network
        check_whole_weights(trainer, f"model.balancing: {self.method.title}")
        if trainer.accumulate_grad_batches > 1 and not self.supports_accumulation:
            raise UserError(
                f"trainer.accumulate_grad_batches should be 1 with model.balancing: "
                f"{self.method.title}, which needs the whole step at once. Found "
                f"{trainer.accumulate_grad_batches}; set data.batch_size higher instead"
            )

    @property
    @abstractmethod
    def supports_accumulation(self) -> bool:
        """Whether steps may be divided into micro-batches."""

    @property
    def gives_weights(self) -> bool:
        """Whether the update is a weighted sum of the tasks' gradients."""
        return True

    def begin(self, device: torch.device, dtype: torch.dtype) -> None:
        """Start a training, or continue the one that `load_state_dict` was given."""
        self.method.begin(device, torch.promote_types(dtype, torch.float32))
        self._reset_averages()
        saved, self._saved = self._saved, {}
        if saved:
            self.method.load_state_dict(saved)
            order = [saved["tasks"].index(task) for task in self.tasks]
            self._sums, self._steps = saved["sums"][order], saved["steps"][order]

    def forward(self, network: Network, batch: Batch, step: int) -> dict[str, Tensor]:
        """Compute the raw outputs of every task: see `Network.forward`."""
        del step
        outputs: dict[str, Tensor] = network(batch.inputs, batch.labelled)
        return outputs

    @abstractmethod
    def loss(self, losses: Mapping[str, Tensor], counts: Mapping[str, int], step: int) -> Tensor:
        """Return the scalar that the trainer minimises and logs.

        Args:
            losses: Task to this rank's and micro-batch's share of its loss.
            counts: Task to the number of its labels in the whole step.
            step: The number of optimizer steps taken before.
        """

    @abstractmethod
    def backward(self, loss: Tensor, scale: float) -> None:
        """Fill the gradients of the network.

        Args:
            loss: The result of `loss`, which the trainer may have scaled, plus any penalty.
            scale: The factor by which the trainer multiplies losses and later divides gradients.
        """

    def active_tasks(self, counts: Mapping[str, int]) -> list[int]:
        """Return the indices of the tasks that have a label in the step."""
        return [index for index, task in enumerate(self.tasks) if counts[task]]

    # ----------------------------------------------------------------- steps that are skipped

    def _begin_step(self) -> None:
        """Take a snapshot of the state before the first micro-batch of a step."""
        if self._restore is None:
            self._restore = self._snapshot()

    def _snapshot(self) -> Callable[[], None]:
        """Return a function that restores the present state."""
        state = {name: value.clone() for name, value in self.method.state.items()}
        sums, steps = self._sums.clone(), self._steps.clone()

        def restore() -> None:
            self.method.state, self._sums, self._steps = state, sums, steps

        return restore

    def rollback(self) -> None:
        """Restore the state from before a step that is skipped, which `after_update` ignores."""
        restore, self._restore = self._restore, None
        if restore is not None:
            restore()

    def after_update(
        self, reevaluate: Callable[[], Mapping[str, Tensor]], counts: Mapping[str, int]
    ) -> None:
        """Finish a step after the weights have changed, unless it was rolled back.

        Args:
            reevaluate: Computes the losses of the same batch with the new weights.
            counts: Task to the number of its labels in the step.
        """
        restore, self._restore = self._restore, None
        if restore is not None:
            self._after_update(reevaluate, counts)

    def _after_update(
        self, reevaluate: Callable[[], Mapping[str, Tensor]], counts: Mapping[str, int]
    ) -> None:
        del reevaluate, counts

    # ----------------------------------------------------------------- weights

    def record_weights(self, weights: Tensor, active: Sequence[int]) -> None:
        """Remember the (n,) weights of a step, and add them to the averages."""
        rows = list(active)
        self._sums, self._steps = self._sums.to(weights.device), self._steps.to(weights.device)
        self._sums[rows] += weights.detach().to(self._sums.dtype)
        self._steps[rows] += 1
        self.weights = {self.tasks[i]: w for i, w in zip(rows, weights.detach(), strict=True)}

    def average_weights(self) -> dict[str, float]:
        """Return, by task, the mean of its weight over the steps that weighed it."""
        means = (self._sums / self._steps.clamp(min=1)).tolist()
        steps = self._steps.tolist()
        return {task: means[i] for i, task in enumerate(self.tasks) if steps[i]}

    # ----------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores: plain values and tensors."""
        saved = {"method": self.method.title, **self.method.state_dict()}
        return saved | {"sums": self._sums.cpu(), "steps": self._steps.cpu()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Hold a checkpoint's state until `begin`."""
        self._saved = saved


def snapshot_buffers(network: nn.Module) -> Callable[[], None]:
    """Return a function that restores the buffers (batch norm's statistics) to their values now."""
    saved = [(buffer, buffer.clone()) for buffer in network.buffers()]

    def restore() -> None:
        for buffer, value in saved:
            buffer.copy_(value)

    return restore
