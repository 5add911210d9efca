"""Conflicts of the tasks over shared parameters: weights, gradient norms and cosines, logged."""

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from mtl_lightning.balancing.gradients.jacobian import Jacobian
from mtl_lightning.system.errors import UserError
from mtl_lightning.training.protocol import multi_task


class BalancingMonitor(Callback):
    """Logs how the tasks' gradients differ, once in a number of optimizer steps.

    ``balance/weight/<task>`` is the factor of a task's gradient, ``balance/norm/<task>`` the norm
    of the gradient without that factor, and ``balance/cosine/<task>/<other>`` the cosine of two
    tasks' gradients: below 0 they conflict. Nothing is logged for tasks that are absent from the
    step. The gradients are those that the balancing reads (``model.gradients``).

    Without a balancing, or with one that reads losses, the gradients of the shared parameters are
    computed only to be logged: one backward pass per task in such a step, and the memory of K
    gradients. The training itself stays the same, bit for bit. If gradients are accumulated, only
    weights are logged: the gradients of a whole step are never in one place.

    Args:
        every_n_steps: The number of optimizer steps from one log to the next.

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
        self._active: list[str] = []
        self._jacobian = Jacobian()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a network in which tasks share nothing."""
        module = multi_task(pl_module)
        sharing = module.network.sharing
        if stage == "fit" and not sharing.shared_parameters(list(module.tasks)):
            raise UserError(
                f"BalancingMonitor: model.sharing should let tasks share parameters. Found "
                f"{type(sharing).__name__}; leave the callback out, or set sharing: Hard"
            )

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Compute the tasks' gradients, unless the balancing does."""
        self._gramian = None
        if not self._is_due(trainer):
            return
        module = multi_task(pl_module)
        self._active = [task for task in module.tasks if module.step_counts[task]]
        balanced = module.balancer is not None and module.balancer.reads_gradients
        if balanced or trainer.accumulate_grad_batches > 1:
            return
        shared = module.network.shared_parameters()
        if not shared:  # they are frozen, perhaps for some epochs
            return
        self._jacobian.begin(shared, len(self._active))
        for row, task in enumerate(self._active):
            gradients = torch.autograd.grad(
                module.shares[task], shared, retain_graph=True, allow_unused=True
            )
            self._jacobian.add_all(row, gradients)
        self._jacobian.finish()
        self._gramian = self._jacobian.gramian().cpu()

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the values of the step."""
        if not self._is_due(trainer):
            return
        balancer = multi_task(pl_module).balancer
        weights = dict.fromkeys(self._active, 1.0)
        if balancer is not None:
            weights = {task: float(weight) for task, weight in balancer.weights.items()}
            self._gramian = balancer.gramian if balancer.reads_gradients else self._gramian
        values = {f"balance/weight/{task}": weight for task, weight in weights.items()}
        values |= self._gradient_values()
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)

    def _is_due(self, trainer: Trainer) -> bool:
        micro_batch = trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1
        return (
            trainer.global_step % self.every_n_steps == 0
            and micro_batch % trainer.accumulate_grad_batches == 0
        )

    def _gradient_values(self) -> dict[str, float]:
        if self._gramian is None or len(self._gramian) != len(self._active):
            return {}
        norms = self._gramian.diagonal().clamp(min=0).sqrt()
        cosines = self._gramian / torch.outer(norms, norms).clamp(min=1e-30)
        values = {f"balance/norm/{t}": float(n) for t, n in zip(self._active, norms, strict=True)}
        for row, task in enumerate(self._active):
            for column in range(row + 1, len(self._active)):
                other = self._active[column]
                values[f"balance/cosine/{task}/{other}"] = float(cosines[row, column])
        return values
