"""How the tasks pull at what they share: weights, gradient norms and cosines, over time."""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from mtl_lightning.balancing.gradients.gradient_balancer import GradientBalancer
from mtl_lightning.balancing.gradients.jacobian import Jacobian
from mtl_lightning.system.errors import UserError
from mtl_lightning.training.module import MultiTask


class BalancingMonitor(Callback):
    """Logs, each so many optimizer steps, how the tasks pull at what they share.

    ``balance/weight/<task>`` is what its gradient was multiplied by, ``balance/norm/<task>`` the
    norm of its gradient before that, and ``balance/cosine/<task>/<other>`` the cosine of two tasks'
    gradients: below 0 they are in conflict. Of tasks that are absent from the step nothing is
    logged. Gradients are those that the balancing reads (``model.gradients``).

    Without a balancing, or with one that reads losses, the gradients of the shared parameters are
    computed for the sake of the log: one backward pass a task in such a step, and the memory of K
    gradients. Training goes the same way bit for bit. Where steps are accumulated, only weights
    are logged: the gradients of a whole step are nowhere.

    Args:
        every_n_steps: How often.

    Raises:
        UserError: If the number is out of range; before training, if tasks share nothing.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        if every_n_steps < 1:
            raise UserError(
                f"BalancingMonitor: every_n_steps should be 1 or more. Found {every_n_steps}"
            )
        self.every_n_steps = every_n_steps
        self._gramian: Tensor | None = None
        self._present: list[str] = []
        self._jacobian = Jacobian()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse where there is nothing to see."""
        if stage != "fit" or not isinstance(pl_module, MultiTask):
            return
        sharing = pl_module.network.sharing
        if not sharing.shared_parameters(list(pl_module.tasks)):
            raise UserError(
                f"BalancingMonitor: under sharing: {type(sharing).__name__} tasks share no weight"
            )

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Take the tasks' gradients, where the balancing does not."""
        self._gramian = None
        if not isinstance(pl_module, MultiTask) or not self._is_due(trainer):
            return
        self._present = [t for t in pl_module.tasks if pl_module.step_counts[t]]
        if isinstance(pl_module.balancer, GradientBalancer) or trainer.accumulate_grad_batches > 1:
            return
        shared = pl_module.network.shared_parameters()
        self._jacobian.begin(shared, len(self._present))
        for row, task in enumerate(self._present):
            parts = torch.autograd.grad(
                pl_module.shares[task], shared, retain_graph=True, allow_unused=True
            )
            for parameter, part in zip(shared, parts, strict=True):
                if part is not None:
                    self._jacobian.add(parameter, row, part)
        self._jacobian.finish()
        self._gramian = self._jacobian.gramian().cpu()

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log."""
        if not isinstance(pl_module, MultiTask) or not self._is_due(trainer):
            return
        balance = pl_module.balancer
        if isinstance(balance, GradientBalancer) and balance.computes_weights:
            self._gramian = balance.gramian
        weights: Any = dict.fromkeys(self._present, 1.0) if balance is None else balance.weights
        values = {f"balance/weight/{task}": float(weight) for task, weight in weights.items()}
        values |= self._of_gradients()
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)

    def _is_due(self, trainer: Trainer) -> bool:
        first = trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1
        return (
            trainer.global_step % self.every_n_steps == 0
            and first % trainer.accumulate_grad_batches == 0
        )

    def _of_gradients(self) -> dict[str, float]:
        if self._gramian is None or len(self._gramian) != len(self._present):
            return {}
        norms = self._gramian.diagonal().clamp(min=0).sqrt()
        cosines = self._gramian / torch.outer(norms, norms).clamp(min=1e-30)
        values = {f"balance/norm/{t}": float(n) for t, n in zip(self._present, norms, strict=True)}
        for row, task in enumerate(self._present):
            for column in range(row + 1, len(self._present)):
                other = self._present[column]
                values[f"balance/cosine/{task}/{other}"] = float(cosines[row, column])
        return values
