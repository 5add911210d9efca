"""What the LightningModule asks of a method in each step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from mtl_lightning.balancing.base import Balancing, LossBalancing
from mtl_lightning.balancing.ranks import mean_over_ranks, same_draws
from mtl_lightning.data.batch import Batch
from mtl_lightning.models import Network
from mtl_lightning.system.errors import UserError


class Steps(ABC):
    """Takes the steps of a training with a method; `LossSteps` and ``GradientSteps`` are two ways.

    The loss of a task is what the module makes of this rank's and micro-batch's rows of it: its
    mean over ranks and micro-batches is the loss of the whole step.

    Args:
        method: The method.
        tasks: The names of all tasks.
    """

    def __init__(self, method: Balancing, tasks: Sequence[str]) -> None:
        self.method = method
        self.tasks = tuple(tasks)
        method.attach(tasks)
        self.weights: dict[str, float | Tensor] = {}
        self._saved: Mapping[str, Any] = {}
        self._back: Callable[[], None] | None = None
        self._forget()

    def _forget(self) -> None:
        self._back = None
        self._sums, self._steps = torch.zeros(len(self.tasks)), torch.zeros(len(self.tasks))

    def check(self, trainer: Trainer, network: Network) -> None:
        """Refuse, before training, what cannot be right.

        Raises:
            UserError: Saying what, and what to change.
        """
        from mtl_lightning.system.strategy import check_whole_weights  # it imports the module

        del network
        check_whole_weights(trainer, f"model.balancing: {self.method.title}")
        if trainer.accumulate_grad_batches > 1 and not self.method.accumulates:
            raise UserError(
                f"model.balancing: {self.method.title} decides by what the whole step shows, which "
                f"no part of it knows; set trainer.accumulate_grad_batches to 1 "
                f"(found {trainer.accumulate_grad_batches}) and data.batch_size higher"
            )

    def begin(self, device: torch.device, dtype: torch.dtype) -> None:
        """Begin a training, or go on with the one of `load_state_dict`."""
        self.method.begin(device, torch.promote_types(dtype, torch.float32))
        self._forget()
        saved, self._saved = self._saved, {}
        if saved:
            if saved["method"] != self.method.title:
                raise UserError(
                    f"model.balancing: the checkpoint was balanced by {saved['method']}, the "
                    f"config has {self.method.title}; go on with the same, or train anew"
                )
            self.method.load_state_dict(saved)
            order = [saved["tasks"].index(task) for task in self.tasks]
            self._sums, self._steps = saved["sums"][order], saved["steps"][order]

    def forward(self, network: Network, batch: Batch, step: int) -> dict[str, Tensor]:
        """Compute the raw outputs of every task: see `Network.forward`."""
        del step
        outputs: dict[str, Tensor] = network(batch.images, batch.labelled)
        return outputs

    @abstractmethod
    def loss(self, shares: Mapping[str, Tensor], counts: Mapping[str, int], step: int) -> Tensor:
        """Return what is to be minimised.

        Args:
            shares: Task to this rank's and micro-batch's share of its loss.
            counts: Task to the number of its labels in the whole step.
            step: The number of optimizer steps taken before.
        """

    @abstractmethod
    def backward(self, loss: Tensor, scale: float) -> None:
        """Fill the gradients of the network.

        Args:
            loss: What `loss` returned and the trainer may have scaled, and a penalty with it.
            scale: By what the trainer multiplies losses, and divides gradients again.
        """

    def _keep(self) -> None:
        """Remember what there was before a step, at its first part, until it is made or not."""
        if self._back is None:
            self._back = self._kept()

    def _kept(self) -> Callable[[], None]:
        """Return what puts all that is remembered back to what it is now."""
        state = {name: value.clone() for name, value in self.method.state.items()}
        sums, steps = self._sums.clone(), self._steps.clone()

        def back() -> None:
            self.method.state, self._sums, self._steps = state, sums, steps

        return back

    def undo(self) -> None:
        """Forget what was learned from a step that is not made; nothing is looked at after it."""
        back, self._back = self._back, None
        if back is not None:
            back()

    def after_update(
        self, look: Callable[[], Mapping[str, Tensor]], counts: Mapping[str, int]
    ) -> None:
        """Take note that the weights have moved, unless the step was undone.

        Args:
            look: Gives the shares of the losses of the same batch as they are now.
            counts: Task to the number of its labels in the step.
        """
        back, self._back = self._back, None
        if back is not None:
            self._look_again(look, counts)

    def _look_again(
        self, look: Callable[[], Mapping[str, Tensor]], counts: Mapping[str, int]
    ) -> None:
        del look, counts

    def present(self, counts: Mapping[str, int]) -> list[int]:
        """Return the numbers of the tasks that have a label in the step."""
        return [number for number, task in enumerate(self.tasks) if counts[task]]

    def note(self, weights: Tensor, present: Sequence[int]) -> None:
        """Remember the (n,) weights of a step, and add them to the average."""
        rows = list(present)
        self._sums, self._steps = self._sums.to(weights.device), self._steps.to(weights.device)
        self._sums[rows] += weights.detach().to(self._sums.dtype)
        self._steps[rows] += 1
        self.weights = {self.tasks[n]: w for n, w in zip(rows, weights.detach(), strict=True)}

    def average_weights(self) -> dict[str, float]:
        """Return, by task, the mean of its weight over the steps in which it was present."""
        means = (self._sums / self._steps.clamp(min=1)).tolist()
        seen = self._steps.tolist()
        return {t: means[n] for n, t in enumerate(self.tasks) if seen[n]}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, plain values and tensors."""
        saved = {"method": self.method.title, **self.method.state_dict()}
        return saved | {"sums": self._sums.cpu(), "steps": self._steps.cpu()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Keep what a checkpoint holds until `begin`."""
        self._saved = saved


class LossSteps(Steps):
    """Steps of a method that reads losses: one backward pass, as without it."""

    method: LossBalancing

    def loss(self, shares: Mapping[str, Tensor], counts: Mapping[str, int], step: int) -> Tensor:
        """Return the combination of the losses.

        Its value is that of the whole step; its derivative by this rank's network is the weighted
        sum of this rank's gradients, of which the trainer takes the mean over ranks.
        """
        self._keep()
        present = self.present(counts)
        stacked = torch.stack(list(shares.values()))
        values = stacked[present].detach().clone()
        if self.method.reads_values:
            mean_over_ranks([values])
        if not present or (self.method.reads_values and not torch.isfinite(values).all()):
            return stacked.sum()  # nothing to weigh, or nothing that may touch the state
        values.requires_grad_()
        with same_draws(step, values.device) if self.method.draws else nullcontext():
            combined = self.method.combine(values, present)
        (weights,) = torch.autograd.grad(combined, values, retain_graph=True)
        self.note(weights, present)
        everywhere = torch.zeros_like(stacked)  # an absent task's head takes part, with 0
        everywhere[present] = weights
        weighted = (everywhere * stacked).sum()
        return combined + (weighted - weighted.detach())

    def backward(self, loss: Tensor, scale: float) -> None:
        """Differentiate as usual."""
        del scale
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here

    def _look_again(
        self, look: Callable[[], Mapping[str, Tensor]], counts: Mapping[str, int]
    ) -> None:
        present = self.present(counts)
        if not self.method.looks_again or not present:
            return
        values = torch.stack(list(look().values()))[present]
        mean_over_ranks([values])
        self.method.seen_again(values, present)


def statistics_kept(network: nn.Module) -> Callable[[], None]:
    """Return what undoes changes of the buffers (batch norm's statistics) from now on."""
    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]

    def restore() -> None:
        for buffer, value in kept:
            buffer.copy_(value)

    return restore
