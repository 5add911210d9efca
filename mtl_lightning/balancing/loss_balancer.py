"""Steps with a method that reads losses: one backward pass, as without balancing."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from mtl_lightning.balancing.balancer import Balancer
from mtl_lightning.balancing.base import LossBalancingMethod
from mtl_lightning.balancing.ranks import mean_over_ranks, shared_seed


class LossBalancer(Balancer):
    """Runs the steps of a training with a `LossBalancingMethod`."""

    method: LossBalancingMethod

    @property
    def supports_accumulation(self) -> bool:
        """Whether the method supports it."""
        return self.method.supports_accumulation

    def loss(self, losses: Mapping[str, Tensor], counts: Mapping[str, int], step: int) -> Tensor:
        """Return the combination of the losses.

        Its value is that of the whole step. Its derivative with respect to this rank's network is
        the weighted sum of this rank's gradients, which the trainer averages over ranks.
        """
        self._begin_step()
        active = self.active_tasks(counts)
        local = torch.stack(list(losses.values()))
        values = local[active].detach().clone()
        if self.method.reads_losses:
            mean_over_ranks([values])
        if not active or (self.method.reads_losses and not torch.isfinite(values).all()):
            return local.sum()  # nothing to weigh, or nothing that may reach the state
        values.requires_grad_()
        with shared_seed(step, values.device) if self.method.stochastic else nullcontext():
            combined = self.method.combine(values, active)
        (weights,) = torch.autograd.grad(combined, values, retain_graph=True)
        self.record_weights(weights, active)
        all_weights = torch.zeros_like(local)  # the head of an absent task takes part, with 0
        all_weights[active] = weights
        weighted = (all_weights * local).sum()
        return combined + (weighted - weighted.detach())

    def backward(self, loss: Tensor, scale: float) -> None:
        """Differentiate as usual."""
        del scale
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here

    def _after_update(
        self, reevaluate: Callable[[], Mapping[str, Tensor]], counts: Mapping[str, int]
    ) -> None:
        active = self.active_tasks(counts)
        if not self.method.needs_second_forward or not active:
            return
        losses = torch.stack(list(reevaluate().values()))[active]
        mean_over_ranks([losses])
        self.method.after_update(losses, active)
