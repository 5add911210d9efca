"""Steps with a method that reads the tasks' gradients.

What tasks share gets the sum of every task's gradient times its weight, which the method decides
on. What is a task's own (its head, and what `Sharing.own_parameters` names) follows that task.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Trainer
from rich import get_console
from torch import Tensor, nn

from mtl_lightning.balancing.balancer import Balancer
from mtl_lightning.balancing.base import GradientBalancingMethod
from mtl_lightning.balancing.gradients import segments
from mtl_lightning.balancing.gradients.jacobian import Jacobian
from mtl_lightning.balancing.gradients.per_row import Groups
from mtl_lightning.balancing.gradients.probe import BackboneProbe
from mtl_lightning.balancing.gradients.split_pass import (
    HeadGradients,
    segmented_pass,
    whole_pass,
)
from mtl_lightning.balancing.ranks import (
    broadcast_from_first_rank,
    mean_over_ranks,
    shared_seed,
    world_size,
)
from mtl_lightning.data.batch import Batch
from mtl_lightning.models import Network
from mtl_lightning.system.errors import UserError, listed

GradientsWrt = Literal["parameters", "features"]
"""The tensors with respect to which gradients are taken."""

ENOUGH_SEVERAL = 0.1
"""The share of images with several labels below which features show hardly any conflict."""


class GradientBalancer(Balancer):
    """Runs the steps of a training with a `GradientBalancingMethod`.

    Args:
        method: The method.
        tasks: The names of all tasks.
        wrt: Take gradients with respect to the shared parameters, or to the features they produce.
        every_n_steps: Compute the weights once in this many steps; they are kept in between.

    """

    method: GradientBalancingMethod
    reads_gradients = True

    def __init__(
        self,
        method: GradientBalancingMethod,
        tasks: Sequence[str],
        wrt: GradientsWrt,
        every_n_steps: int,
    ) -> None:
        self.wrt = wrt
        self.every_n_steps = every_n_steps
        super().__init__(method, tasks)
        if every_n_steps < 1:
            raise UserError(
                f"model.balance_every_n_steps should be 1 or more. Found {every_n_steps}"
            )
        if method.needs_jacobian and (wrt == "features" or every_n_steps > 1):
            raise UserError(
                f"model.gradients and model.balance_every_n_steps should be left out with "
                f"model.balancing: {method.title}, which gives one gradient and no weights. Found "
                f"gradients: {wrt}, balance_every_n_steps: {every_n_steps}"
            )
        self._jacobian = Jacobian()
        self._last_weights: dict[int, Tensor] = {}
        self._probe = BackboneProbe()

    # ----------------------------------------------------------------- before training

    @property
    def supports_accumulation(self) -> bool:
        """Never: the gradients of a whole step are never in one place."""
        return False

    @property
    def gives_weights(self) -> bool:
        """Whether the method gives weights, and not only one gradient."""
        return not self.method.needs_jacobian

    def check(self, trainer: Trainer, network: Network) -> None:
        """Refuse, before training, combinations that would be wrong."""
        super().check(trainer, network)
        sharing, title = network.sharing, self.method.title
        if not sharing.shared_parameters(self.tasks):
            raise UserError(
                f"model.sharing should let tasks share parameters with model.balancing: {title}, "
                f"which weighs their gradients. Found {type(sharing).__name__}; set sharing: Hard, "
                f"or a method that reads losses"
            )
        if self.wrt == "features" and sharing.shared_backbone is None:
            raise UserError(
                f"model.gradients should be parameters with model.sharing: "
                f"{type(sharing).__name__}, which has no one tensor of features for all tasks. "
                f"Found features; set sharing: Hard, or leave model.gradients out"
            )
        if self.wrt == "features" and len(network.all_reads) > 1:
            read = [f"{listed(network.reads[task])} ({task})" for task in self.tasks]
            raise UserError(
                f"model.gradients should be parameters where heads read different features. Found "
                f"features, and heads that read {'; '.join(read)}. Leave model.gradients out, or "
                f"let all heads read the same"
            )
        if any(getattr(m, "_compiled_call_impl", None) is not None for m in network.modules()):
            raise UserError(
                f"model.balancing should read losses where the network is compiled. Found {title}, "
                f"which cuts the network in two; choose another method, or do not compile it"
            )
        if self.wrt == "features" and trainer.is_global_zero:
            self._note_unseen_conflicts(trainer)

    def _note_unseen_conflicts(self, trainer: Trainer) -> None:
        """Print a note if most images carry one label: tasks then have no features in common."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        rows = data.labels.rows("train")
        labels = np.sum([data.labels.has_label(task)[rows] for task in self.tasks], axis=0)
        several = int((labels > 1).sum())
        if len(self.tasks) > 1 and several < ENOUGH_SEVERAL * len(rows):
            get_console().print(
                f"[yellow]note:[/] gradients: features sees a conflict of tasks only in images "
                f"that carry several labels: {several:,} of {len(rows):,}. In the others it weighs "
                f"by the sizes of the gradients alone; gradients: parameters sees all",
                highlight=False,
            )

    # ----------------------------------------------------------------- a step

    def forward(self, network: Network, batch: Batch, step: int) -> dict[str, Tensor]:
        """Compute the raw outputs of every task, with the graph cut at the features."""
        active = self.active_tasks(batch.counts)
        self._step, self.gramian = step, None
        self._computes_weights = step % self.every_n_steps == 0 or any(
            index not in self._last_weights for index in active
        )
        backbone = network.sharing.shared_backbone
        if self.wrt == "features" or not self._computes_weights or backbone is None:
            self._pass = whole_pass(network, batch, len(active))
            return self._pass.outputs
        masks = [batch.labelled[self.tasks[i]].reshape(len(batch), -1).any(1) for i in active]
        labelled = torch.stack(masks, 1).cpu().numpy() if masks else np.zeros((len(batch), 0), bool)
        mode = self._probe(backbone, network.input_specs).mode
        groups = Groups(self._jacobian.add) if mode == "rows" else None
        parts = segments.divide(labelled, mode)
        self._pass = segmented_pass(network, backbone, batch, parts, groups)
        return self._pass.outputs

    def loss(self, losses: Mapping[str, Tensor], counts: Mapping[str, int], step: int) -> Tensor:
        """Return the sum of the losses, to be logged; `backward` differentiates them one by one."""
        del step
        self._begin_step()
        self._losses, self._active = dict(losses), self.active_tasks(counts)
        return torch.stack(list(losses.values())).sum().detach().requires_grad_()

    def backward(self, loss: Tensor, scale: float) -> None:
        """Fill the gradients of what tasks share and of what is their own."""
        names = [self.tasks[index] for index in self._active]
        if not names:
            return
        losses = [self._losses[name] for name in names]
        shared = self._pass.network.shared_parameters()
        values = torch.stack(losses).detach().clone()
        mean_over_ranks([values])
        heads = self._pass.head_gradients(names, [loss * scale for loss in losses], shared)
        weights = torch.ones(len(names))
        if shared:
            weights = self._shared_gradients(shared, names, heads, values, scale)
        factors = self.method.weigh_heads(values.cpu(), weights.cpu())
        _set_own_gradients(heads.own, factors)
        if loss.grad_fn is not None:  # a penalty of the sharing
            _add_penalty(loss, [*shared, *(p for own, _ in heads.own for p in own)])
        del self._pass, self._losses

    def _shared_gradients(
        self,
        shared: list[nn.Parameter],
        names: list[str],
        heads: HeadGradients,
        losses: Tensor,
        scale: float,
    ) -> Tensor:
        """Fill the gradients of what tasks share; return the tasks' weights."""
        if self.wrt == "parameters" and self._computes_weights:
            self._jacobian.begin(shared, len(names))
            self._pass.fill_jacobian(self._jacobian, names, heads)
            self._jacobian.finish()
            gramian = self._jacobian.gramian() / scale**2
            if self.method.needs_jacobian:
                self.gramian, active = gramian.cpu(), self._active
                with shared_seed(self._step, losses.device):
                    self._jacobian.aggregate(
                        lambda rows: self.method.aggregate(rows, active), self.method.columnwise
                    )
                return torch.ones(len(names))
            weights = self._weigh(gramian, losses)
            self._jacobian.combine(weights)
            return weights
        if self._computes_weights:
            weights = self._weigh(_gramian_of_features(heads) / scale**2, losses)
        else:
            weights = torch.stack([self._last_weights[index] for index in self._active])
        gradients = self._pass.backbone_gradients(names, heads, weights.tolist(), shared)
        mean_over_ranks(gradients)
        for parameter, gradient in zip(shared, gradients, strict=True):
            parameter.grad = gradient
        return weights

    def _weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """Return the method's (n,) weights, the same on all ranks."""
        dtype = torch.promote_types(losses.dtype, torch.float32)
        gramian = gramian.to(device="cpu", dtype=dtype)
        self.gramian = gramian
        active = self._active
        if not (torch.isfinite(gramian).all() and torch.isfinite(losses).all()):
            return torch.ones(len(active))  # the gradients then show what is not finite
        with shared_seed(self._step, gramian.device):
            weights = self.method.weigh(gramian, losses.to("cpu", dtype), active)
        weights = broadcast_from_first_rank(weights.to(losses)).cpu()
        self.record_weights(weights, active)
        self._last_weights.update(zip(active, weights, strict=True))
        return weights

    # ----------------------------------------------------------------- state

    def _snapshot(self) -> Callable[[], None]:
        restore_others, last_weights = super()._snapshot(), dict(self._last_weights)

        def restore() -> None:
            restore_others()
            self._last_weights = last_weights

        return restore

    def begin(self, device: torch.device, dtype: torch.dtype) -> None:
        """Start a training, or continue the one that `load_state_dict` was given."""
        tasks, weights = self._saved.get("tasks", []), self._saved.get("last_weights", [])
        saved = dict(zip(tasks, weights, strict=True))
        super().begin(device, dtype)
        self._last_weights = {
            index: saved[task]
            for index, task in enumerate(self.tasks)
            if saved.get(task) is not None
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores, the last weights included."""
        last_weights = [self._last_weights.get(index) for index in range(len(self.tasks))]
        return super().state_dict() | {"last_weights": last_weights}


def _gramian_of_features(heads: HeadGradients) -> Tensor:
    """Return the inner products of derivatives with respect to the features of all ranks."""
    rows = torch.stack([by_feature.flatten() for (by_feature,) in heads.by_cut])
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    products = rows @ rows.T
    mean_over_ranks([products])
    # On each of N ranks losses are N times too large, as if it were the only one: the sum of the
    # products over N**2 is their mean over N.
    return products / world_size()


def _set_own_gradients(
    own: Sequence[tuple[list[nn.Parameter], list[Tensor]]], factors: Tensor
) -> None:
    mean_over_ranks([gradient for _, gradients in own for gradient in gradients])
    for factor, (parameters, gradients) in zip(factors.tolist(), own, strict=True):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient if factor == 1.0 else gradient * factor


def _add_penalty(loss: Tensor, parameters: list[nn.Parameter]) -> None:
    parts = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, part in zip(parameters, parts, strict=True):
        if part is not None:
            parameter.grad = part if parameter.grad is None else parameter.grad + part
