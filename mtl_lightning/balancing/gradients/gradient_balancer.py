"""Steps of a method that reads the tasks' gradients.

The network is cut in two: at the output of the backbone that all tasks read, or, where the sharing
names none, at each task's features. What stands above the cut is differentiated for each task,
which costs next to nothing, and the derivatives by the cut are then carried down through what lies
below. A parameter may stand above, below or on both sides. What tasks share gets the sum of every
task's gradient times its weight, which the method decides on; what is a task's own (its head, and
what `Sharing.own_parameters` names) follows that task.

No gradient goes through ``backward``, so that DDP has nothing to reduce: ranks add up here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Trainer
from rich import get_console
from torch import Tensor, nn

from mtl_lightning.balancing.balancer import Steps
from mtl_lightning.balancing.base import GradientBalancing
from mtl_lightning.balancing.gradients import segments
from mtl_lightning.balancing.gradients.jacobian import Jacobian
from mtl_lightning.balancing.gradients.per_row import Groups, recording
from mtl_lightning.balancing.gradients.probe import Found, try_rows
from mtl_lightning.balancing.gradients.segments import Segment
from mtl_lightning.balancing.ranks import (
    mean_over_ranks,
    of_the_first_rank,
    same_draws,
    world_size,
)
from mtl_lightning.data.batch import Batch
from mtl_lightning.models import Backbone, Network
from mtl_lightning.system.errors import UserError

Of = Literal["parameters", "features"]
"""With respect to what gradients are taken."""


SEEN = 0.1
"""Share of the images with several labels, under which features hardly show conflicts."""


Gradients = Sequence[Tensor | None]
"""One a parameter; None where it is not reached."""


@dataclass
class _Pass:
    """What a forward pass leaves for the backward pass.

    Attributes:
        cut: Task to the tensor at which the network is cut, a leaf.
        below: The segments' rows, and task to that tensor with what lies below it.
        groups: Where the passes through the layers are recorded for rows of several tasks.
        own_below: Parameters of a task's own may lie below the cut.
    """

    cut: dict[str, Tensor]
    below: list[tuple[Segment, dict[str, Tensor]]]
    groups: Groups | None = None
    own_below: bool = False


@dataclass
class _Above:
    """What the losses of the tasks present give above the cut, task by task.

    Attributes:
        by_cut: Derivatives by the tensor at the cut.
        by_shared: Derivatives by what tasks share; None where it does not stand above.
        own: The parameters of a task's own, and their whole gradients.
    """

    by_cut: list[Tensor]
    by_shared: list[Gradients]
    own: list[tuple[list[nn.Parameter], list[Tensor]]]


class GradientSteps(Steps):
    """Takes steps by the tasks' gradients.

    Args:
        method: The method.
        tasks: The names of all tasks.
        of: Gradients with respect to the shared parameters, or to the features that they make.
        every_n_steps: Weigh anew each so many steps; the weights are held in between.
    """

    method: GradientBalancing

    def __init__(
        self, method: GradientBalancing, tasks: Sequence[str], of: Of, every_n_steps: int
    ) -> None:
        self.of = of
        self.every_n_steps = every_n_steps
        self.gramian: Tensor | None = None
        self.weighed_anew = True
        super().__init__(method, tasks)
        if every_n_steps < 1:
            raise UserError(
                f"model.balance_every_n_steps should be 1 or more. Found {every_n_steps}"
            )
        if method.rows_wanted and (of == "features" or every_n_steps > 1):
            setting = "gradients: features" if of == "features" else "balance_every_n_steps above 1"
            raise UserError(
                f"model.balancing: {method.title} gives no weights but a gradient, so that it "
                f"cannot go with model.{setting}; leave that out"
            )
        self._jacobian = Jacobian()
        self._held: dict[int, Tensor] = {}
        self._found: tuple[object, Found] | None = None
        self._told = ""

    # ----------------------------------------------------------------- before training

    def check(self, trainer: Trainer, network: Network) -> None:
        """Refuse, before training, what cannot be right."""
        super().check(trainer, network)
        title = f"model.balancing: {self.method.title}"
        if not network.sharing.shared_parameters(self.tasks):
            raise UserError(
                f"{title} weighs gradients of what tasks share, and under sharing: "
                f"{type(network.sharing).__name__} they share no weight; set sharing: Hard, or a "
                f"method that reads losses"
            )
        if self.of == "features" and network.sharing.shared_backbone is None:
            raise UserError(
                f"{title}: gradients: features needs one tensor of features for all tasks, "
                f"as sharing: Hard has it"
            )
        if any(getattr(m, "_compiled_call_impl", None) is not None for m in network.modules()):
            raise UserError(
                f"{title} cuts the network in two, which a compiled one hides; do not compile it, "
                f"or take a method that reads losses"
            )
        if self.of == "features" and trainer.is_global_zero:
            self._tell_if_blind(trainer)

    def _tell_if_blind(self, trainer: Trainer) -> None:
        """Say so where no conflict can be seen: rows with one label each share no feature."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        rows = data.rows("train")
        labels = np.sum([data.has_label(task)[rows] for task in self.tasks], axis=0)
        several = int((labels > 1).sum())
        if len(self.tasks) > 1 and several < SEEN * len(rows):
            get_console().print(
                f"[yellow]note:[/] gradients: features sees a conflict of tasks only in images "
                f"that carry several labels: {several:,} of {len(rows):,}. In the others it weighs "
                f"by the sizes of the gradients alone; gradients: parameters sees all",
                highlight=False,
            )

    # ----------------------------------------------------------------- a step

    def forward(self, network: Network, batch: Batch, step: int) -> dict[str, Tensor]:
        """Compute the raw outputs of every task, and keep the graph below the features apart."""
        present = self.present(batch.counts)
        self._network, self._step = network, step
        self.weighed_anew = step % self.every_n_steps == 0 or any(
            n not in self._held for n in present
        )
        sharing, backbone = network.sharing, network.sharing.shared_backbone
        if backbone is None:
            features = sharing(batch.images, batch.labelled)
            self._pass = _whole(features, len(present), own_below=True)
            features = self._pass.cut
        else:
            if self.of == "parameters" and self.weighed_anew:
                self._pass = self._in_segments(backbone, batch, present)
            else:
                common = backbone(batch.images)
                self._pass = _whole(dict.fromkeys(self.tasks, common), len(present))
            with _answering(backbone, batch.images, self._pass.cut[self.tasks[0]]):
                features = sharing(batch.images, batch.labelled)
        return network.forward_heads(features)

    def _in_segments(self, backbone: Backbone, batch: Batch, present: list[int]) -> _Pass:
        """Run the backbone so that the gradients of the tasks' own rows can be had."""
        names = [self.tasks[n] for n in present]
        masks = [batch.labelled[name].reshape(len(batch), -1).any(1) for name in names]
        labelled = torch.stack(masks, 1).cpu().numpy() if masks else np.zeros((len(batch), 0), bool)
        found = self._way(backbone)
        if found.way == "rows":
            parts = segments.by_rows(labelled)
        elif found.way == "sets":
            parts = segments.by_sets(labelled)
        else:
            parts = [segments.together(range(len(batch)), range(len(present)))]
        groups = Groups(self._jacobian.add) if found.way == "rows" else None
        below = []
        with recording(backbone, groups) if groups is not None else nullcontext():
            for part in parts:
                rows = part.rows.to(batch.images.device)
                features = backbone(batch.images[rows])
                below.append((part, dict.fromkeys(self.tasks, features)))
        if not below:  # this rank holds no label: all ranks need features, nobody reads these
            with torch.no_grad():
                features = backbone(batch.images)
            return _Pass(dict.fromkeys(self.tasks, features.requires_grad_()), [], groups)
        first = next(iter(below[0][1].values()))
        whole = first.new_zeros(len(batch), first.shape[1])
        for part, of_task in below:
            whole[part.rows.to(whole.device)] = next(iter(of_task.values())).detach()
        return _Pass(dict.fromkeys(self.tasks, whole.requires_grad_()), below, groups)

    def _way(self, backbone: Backbone) -> Found:
        """Find out again whenever something else is trained, or batch norm changes its mode."""
        state = (
            tuple(p.requires_grad for p in backbone.parameters()),
            tuple(m.training for m in backbone.modules()),
        )
        if self._found is None or self._found[0] != state:
            trained = any(p.requires_grad for p in backbone.parameters())
            found = try_rows(backbone, self._network.image_size) if trained else Found("tasks")
            self._found = (state, found)
            self._tell(found)
        return self._found[1]

    def _tell(self, found: Found) -> None:
        if found.reason and found.reason != self._told:
            self._told = found.reason
            how = (
                "one backward pass of all rows for each task"
                if found.way == "tasks"
                else "rows with the same labels go through it apart"
            )
            get_console().print(f"[yellow]note:[/] balancing: {found.reason}: {how}")

    def loss(self, shares: Mapping[str, Tensor], counts: Mapping[str, int], step: int) -> Tensor:
        """Return the sum of the losses, for the eye; gradients come from what is kept here."""
        del step
        self._keep()
        self._shares, self._present = dict(shares), self.present(counts)
        return torch.stack(list(shares.values())).sum().detach().requires_grad_()

    def backward(self, loss: Tensor, scale: float) -> None:
        """Fill the gradients of heads and trunk."""
        present, names = self._present, [self.tasks[n] for n in self._present]
        shares = [self._shares[name] for name in names]
        shared = self._network.shared_parameters()
        if not names:
            return
        values = torch.stack(shares).detach().clone()
        mean_over_ranks([values])
        above = self._above(shared, names, shares, scale)
        if not shared:
            weights = torch.ones(len(present))
        elif not self.weighed_anew:
            weights = torch.stack([self._held[n] for n in present])
            self._below(shared, names, above, weights)
        elif self.of == "features":
            weights = self._weigh(self._products(above) / scale**2, values)
            self._below(shared, names, above, weights)
        else:
            weights = self._of_parameters(shared, names, above, values, scale)
        self._finish_own(above.own, self.method.weigh_heads(values.cpu(), weights.cpu()))
        if loss.grad_fn is not None:  # a penalty of the sharing
            self._add_penalty(loss, [*shared, *(p for own, _ in above.own for p in own)])
        del self._pass, self._shares

    def _above(
        self, shared: list[nn.Parameter], names: list[str], shares: list[Tensor], scale: float
    ) -> _Above:
        above = _Above([], [], [])
        for left, (name, share) in enumerate(zip(names, shares, strict=True), 1 - len(names)):
            cut = self._pass.cut[name]
            own = [p for p in self._network.own_parameters(name) if p.requires_grad]
            by_cut, *others = torch.autograd.grad(
                share * scale, [cut, *own, *shared], retain_graph=left < 0, allow_unused=True
            )
            by_cut = torch.zeros_like(cut) if by_cut is None else by_cut
            by_own: Gradients = others[: len(own)]
            if self._pass.own_below:
                _, features = self._pass.below[0]
                by_own = _sums(by_own, _carried([features[name]], [by_cut], own, keep=True))
            above.by_cut.append(by_cut)
            above.by_shared.append(others[len(own) :])
            above.own.append((own, _filled(by_own, own)))
        return above

    def _finish_own(
        self, everyone: list[tuple[list[nn.Parameter], list[Tensor]]], weights: Tensor
    ) -> None:
        mean_over_ranks([g for _, gradients in everyone for g in gradients])
        for weight, (own, gradients) in zip(weights.tolist(), everyone, strict=True):
            for parameter, gradient in zip(own, gradients, strict=True):
                parameter.grad = gradient if weight == 1.0 else gradient * weight

    def _add_penalty(self, loss: Tensor, parameters: list[nn.Parameter]) -> None:
        parts = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, part in zip(parameters, parts, strict=True):
            if part is not None:
                parameter.grad = part if parameter.grad is None else parameter.grad + part

    # ----------------------------------------------------------------- weights

    def _weigh(self, gramian: Tensor, values: Tensor) -> Tensor:
        """Return the method's (n,) weights, the same on all ranks."""
        kept = torch.promote_types(values.dtype, torch.float32)
        gramian = gramian.to(device="cpu", dtype=kept)
        self.gramian = gramian
        present = self._present
        if not (torch.isfinite(gramian).all() and torch.isfinite(values).all()):
            return torch.ones(len(present))  # what is not a number shows in the gradients
        with same_draws(self._step, gramian.device):
            weights = self.method.weigh(gramian, values.to("cpu", kept), present)
        weights = of_the_first_rank(weights.to(values)).cpu()
        self.note(weights, present)
        self._held.update(zip(present, weights, strict=True))
        return weights

    def _products(self, above: _Above) -> Tensor:
        """Return the inner products of derivatives by the features of all ranks."""
        rows = torch.stack([each.flatten() for each in above.by_cut])
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        products = rows @ rows.T
        mean_over_ranks([products])
        # A rank's losses are as large as if it were all of them: their sum over N² is wanted.
        return products / world_size()

    def _below(
        self, shared: list[nn.Parameter], names: list[str], above: _Above, weights: Tensor
    ) -> None:
        """Fill the gradients of what is shared by one backward pass of the weighted sum."""
        _, features = self._pass.below[0]
        sums: dict[Tensor, Tensor] = {}
        parts: Gradients = [None] * len(shared)
        for number, (name, weight) in enumerate(zip(names, weights.tolist(), strict=True)):
            feature, part = features[name], weight * above.by_cut[number]
            sums[feature] = sums[feature] + part if feature in sums else part
            parts = _sums(parts, [g if g is None else weight * g for g in above.by_shared[number]])
        parts = _sums(parts, _carried(list(sums), list(sums.values()), shared))
        gradients = _filled(parts, shared)
        mean_over_ranks(gradients)
        for parameter, gradient in zip(shared, gradients, strict=True):
            parameter.grad = gradient

    def _of_parameters(
        self,
        shared: list[nn.Parameter],
        names: list[str],
        above: _Above,
        values: Tensor,
        scale: float,
    ) -> Tensor:
        """Fill the gradients below the features by the Jacobian of the shared parameters."""
        self._jacobian.begin(shared, len(names))
        for row, gradients in enumerate(above.by_shared):
            self._add(shared, row, gradients)
        for part, features in self._pass.below:
            self._differentiate(part, features, shared, names, above.by_cut)
        self._jacobian.finish()
        if not self.method.rows_wanted:
            weights = self._weigh(self._jacobian.gramian() / scale**2, values)
            self._jacobian.combine(weights)
            return weights
        self.gramian = self._jacobian.gramian().cpu() / scale**2
        present = self._present
        with same_draws(self._step, values.device):
            self._jacobian.aggregate(
                lambda matrix: self.method.aggregate(matrix, present), self.method.columns_apart
            )
        return torch.ones(len(names))

    def _differentiate(
        self,
        part: Segment,
        features: dict[str, Tensor],
        shared: list[nn.Parameter],
        names: list[str],
        above: list[Tensor],
    ) -> None:
        """Add a segment's gradients to the Jacobian, pass by pass."""
        for number, tasks in enumerate(part.passes):
            outputs = features[names[tasks[0][0]]]
            carried = torch.zeros_like(outputs)
            for task, rows in tasks:
                carried[rows] = above[task][part.rows[rows].to(outputs.device)]
            keep = number + 1 < len(part.passes)
            if self._pass.groups is not None:
                self._pass.groups.rows = tasks
                _carried([outputs], [carried], shared, keep)
            else:
                self._add(shared, tasks[0][0], _carried([outputs], [carried], shared, keep))

    def _add(self, shared: list[nn.Parameter], row: int, gradients: Gradients) -> None:
        for parameter, gradient in zip(shared, gradients, strict=True):
            if gradient is not None:
                self._jacobian.add(parameter, row, gradient)

    def _kept(self) -> Callable[[], None]:
        others, held = super()._kept(), dict(self._held)

        def back() -> None:
            others()
            self._held = held

        return back

    # ----------------------------------------------------------------- checkpoints

    def begin(self, device: torch.device, dtype: torch.dtype) -> None:
        """Begin a training, or go on with the one of `load_state_dict`."""
        held = dict(zip(self._saved.get("tasks", []), self._saved.get("held", []), strict=True))
        super().begin(device, dtype)
        self._held = {n: held[t] for n, t in enumerate(self.tasks) if held.get(t) is not None}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, the weights that are held among it."""
        return super().state_dict() | {"held": [self._held.get(n) for n in range(len(self.tasks))]}


def _whole(features: dict[str, Tensor], count: int, own_below: bool = False) -> _Pass:
    """Cut at the features, computed of all rows."""
    rows = range(len(next(iter(features.values()))))
    leaves = {feature: feature.detach().requires_grad_() for feature in features.values()}
    cut = {task: leaves[feature] for task, feature in features.items()}
    return _Pass(cut, [(segments.together(rows, range(count)), features)], own_below=own_below)


@contextmanager
def _answering(backbone: Backbone, images: Tensor, features: Tensor) -> Iterator[None]:
    """Let the backbone, which has run on these images, give these features without running."""
    calls = 0

    def forward(inputs: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if inputs is not images:
            raise UserError(_NOT_ONCE)
        return features

    vars(backbone)["forward"] = forward
    try:
        yield
    finally:
        del backbone.forward  # the class's own comes back
    if calls != 1:
        raise UserError(_NOT_ONCE)


_NOT_ONCE = (
    "model.sharing: a sharing that has a shared_backbone should run it once, on all images as they "
    "are. Found one that does not; leave its shared_backbone None"
)


def _carried(
    outputs: list[Tensor], carried: list[Tensor], parameters: list[nn.Parameter], keep: bool = False
) -> Gradients:
    """Return the gradients that derivatives by the outputs give the parameters."""
    pairs = [(o, c) for o, c in zip(outputs, carried, strict=True) if o.requires_grad]
    if not pairs or not parameters:
        return [None] * len(parameters)
    outputs, carried = map(list, zip(*pairs, strict=True))
    return torch.autograd.grad(outputs, parameters, carried, retain_graph=keep, allow_unused=True)


def _sums(one: Gradients, other: Gradients) -> Gradients:
    return [b if a is None else a if b is None else a + b for a, b in zip(one, other, strict=True)]


def _filled(gradients: Gradients, parameters: list[nn.Parameter]) -> list[Tensor]:
    return [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)
    ]
