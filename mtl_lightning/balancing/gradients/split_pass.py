"""A forward pass through a network that is cut in two, and its derivatives on both sides.

The cut is the features of the backbone that all tasks read or, where the sharing names none, each
task's features. What is above the cut is differentiated for each task, which costs next to nothing;
the derivatives with respect to the cut are then carried through what is below. A parameter may be
above the cut, below it, or on both sides.

No gradient goes through ``backward``, so DDP has nothing to reduce: callers average over ranks.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtl_lightning.balancing.gradients.jacobian import Jacobian
from mtl_lightning.balancing.gradients.per_row import Groups, recording
from mtl_lightning.balancing.gradients.segments import Segment, all_rows
from mtl_lightning.data.batch import Batch
from mtl_lightning.models import Backbone, Network
from mtl_lightning.models.features import Features
from mtl_lightning.models.inputs import Inputs, take_rows
from mtl_lightning.system.errors import UserError

Gradients = Sequence[Tensor | None]
"""One gradient per parameter; None for a parameter that is not reached."""


@dataclass
class HeadGradients:
    """Derivatives of the active tasks' losses above the cut, in the order of the tasks.

    Attributes:
        by_cut: With respect to the tensors at the cut.
        by_shared: With respect to the shared parameters, as far as these are above the cut.
        own: Each task's own parameters, and their complete gradients.
    """

    by_cut: list[list[Tensor]]
    by_shared: list[Gradients]
    own: list[tuple[list[nn.Parameter], list[Tensor]]]


@dataclass
class SplitPass:
    """A forward pass whose graph is cut.

    Attributes:
        network: The network.
        outputs: Task to its raw outputs.
        cut: Task to the tensors at the cut, leaves.
        below: For each segment of the batch, task to the same tensors with the graph below them.
        groups: If set, one pass below the cut gives the gradients of several tasks.
        own_below: Whether tasks' own parameters may be below the cut.
    """

    network: Network
    outputs: dict[str, Tensor]
    cut: Mapping[str, Features]
    below: list[tuple[Segment, dict[str, Features]]]
    groups: Groups | None = None
    own_below: bool = False

    def head_gradients(
        self, names: Sequence[str], losses: Sequence[Tensor], shared: list[nn.Parameter]
    ) -> HeadGradients:
        """Differentiate each task's loss above the cut.

        Args:
            names: The active tasks.
            losses: Their losses.
            shared: What tasks share and is trained.
        """
        heads = HeadGradients([], [], [])
        for remaining, (name, loss) in enumerate(zip(names, losses, strict=True), 1 - len(names)):
            cut = list(self.cut[name].values())
            own = [p for p in self.network.own_parameters(name) if p.requires_grad]
            found = torch.autograd.grad(
                loss, [*cut, *own, *shared], retain_graph=remaining < 0, allow_unused=True
            )
            by_cut = _zero_filled(found[: len(cut)], cut)
            others = found[len(cut) :]
            by_own: Gradients = others[: len(own)]
            if self.own_below:
                _, features = self.below[0]
                outputs = list(features[name].values())
                by_own = _sum(by_own, _propagate(outputs, by_cut, own, keep=True))
            heads.by_cut.append(by_cut)
            heads.by_shared.append(others[len(own) :])
            heads.own.append((own, _zero_filled(by_own, own)))
        return heads

    def backbone_gradients(
        self,
        names: Sequence[str],
        heads: HeadGradients,
        weights: Sequence[float],
        shared: list[nn.Parameter],
    ) -> list[Tensor]:
        """Return the weighted sum of the tasks' gradients, by one pass below the cut."""
        _, features = self.below[0]
        carried: dict[Tensor, Tensor] = {}
        total: Gradients = [None] * len(shared)
        for index, (name, weight) in enumerate(zip(names, weights, strict=True)):
            for output, by_output in zip(features[name].values(), heads.by_cut[index], strict=True):
                part = weight * by_output
                carried[output] = carried[output] + part if output in carried else part
            total = _sum(total, [g if g is None else weight * g for g in heads.by_shared[index]])
        below = _propagate(list(carried), list(carried.values()), shared)
        return _zero_filled(_sum(total, below), shared)

    def fill_jacobian(self, jacobian: Jacobian, names: Sequence[str], heads: HeadGradients) -> None:
        """Add every task's gradient to its row of the Jacobian, segment by segment."""
        for row, gradients in enumerate(heads.by_shared):
            jacobian.add_all(row, gradients)
        for segment, features in self.below:
            for number, tasks in enumerate(segment.passes, 1):
                outputs = list(features[names[tasks[0][0]]].values())
                carried = [torch.zeros_like(output) for output in outputs]
                for task, rows in tasks:
                    for derivatives, by_output in zip(carried, heads.by_cut[task], strict=True):
                        derivatives[rows] = by_output[segment.rows[rows].to(by_output.device)]
                keep = number < len(segment.passes)
                if self.groups is not None:  # the layers add to the Jacobian themselves
                    self.groups.rows = tasks
                    _propagate(outputs, carried, jacobian.parameters, keep)
                else:
                    gradients = _propagate(outputs, carried, jacobian.parameters, keep)
                    jacobian.add_all(tasks[0][0], gradients)


def whole_pass(network: Network, batch: Batch, active: int) -> SplitPass:
    """Run the network on all rows at once.

    Args:
        network: The network.
        batch: The batch.
        active: The number of active tasks.
    """
    backbone = network.sharing.shared_backbone
    if backbone is None:
        features = network.sharing(batch.inputs, batch.labelled)
    else:
        features = dict.fromkeys(network.heads, backbone(batch.inputs))
    every = {values for own in features.values() for values in own.values()}
    leaves = {values: values.detach().requires_grad_() for values in every}
    cut = {task: {n: leaves[v] for n, v in own.items()} for task, own in features.items()}
    below = [(all_rows(range(len(batch)), range(active)), features)]
    outputs = _outputs_above(network, batch, cut)
    return SplitPass(network, outputs, cut, below, own_below=backbone is None)


def segmented_pass(
    network: Network, backbone: Backbone, batch: Batch, parts: list[Segment], groups: Groups | None
) -> SplitPass:
    """Run the shared backbone on one segment of the batch after the other.

    Args:
        network: The network.
        backbone: Its sharing's `shared_backbone`.
        batch: The batch.
        parts: Its segments.
        groups: If set, record the layers so that one pass serves the rows of several tasks.
    """
    below = []
    with recording(backbone, groups) if groups is not None else nullcontext():
        for part in parts:
            features = backbone(take_rows(batch.inputs, part.rows.to(batch.rows.device)))
            below.append((part, dict.fromkeys(network.heads, features)))
    if below:
        shapes = next(iter(below[0][1].values())).items()
        whole = {n: values.new_zeros(len(batch), *values.shape[1:]) for n, values in shapes}
        for part, of_task in below:
            for name, values in next(iter(of_task.values())).items():
                whole[name][part.rows.to(values.device)] = values.detach()
    else:  # this rank has no label; its heads still have to run, as on the other ranks
        with torch.no_grad():
            whole = backbone(batch.inputs)
    leaves = {name: values.requires_grad_() for name, values in whole.items()}
    cut = dict.fromkeys(network.heads, leaves)
    return SplitPass(network, _outputs_above(network, batch, cut), cut, below, groups)


def _outputs_above(
    network: Network, batch: Batch, cut: Mapping[str, Features]
) -> dict[str, Tensor]:
    """Run what is above the cut."""
    backbone = network.sharing.shared_backbone
    if backbone is None:
        return network.forward_heads(cut)
    with _replaced_output(backbone, batch.inputs, next(iter(cut.values()))):
        features = network.sharing(batch.inputs, batch.labelled)
    return network.forward_heads(features)


@contextmanager
def _replaced_output(backbone: Backbone, inputs: Inputs, features: Features) -> Iterator[None]:
    """Make the backbone, which has run on these inputs, return these features without running."""
    calls = 0

    def forward(given: Inputs) -> Features:
        nonlocal calls
        calls += 1
        if given is not inputs:
            raise UserError(_NOT_ONCE)
        return features

    vars(backbone)["forward"] = forward
    try:
        yield
    finally:
        del backbone.forward  # the class's own method is found again
    if calls != 1:
        raise UserError(_NOT_ONCE)


_NOT_ONCE = (
    "model.sharing should run its shared_backbone once, on all images unchanged. Found a sharing "
    "that does not; let its shared_backbone be None"
)


def _propagate(
    outputs: list[Tensor], carried: list[Tensor], parameters: list[nn.Parameter], keep: bool = False
) -> Gradients:
    """Carry derivatives with respect to outputs down to the parameters."""
    pairs = [(o, c) for o, c in zip(outputs, carried, strict=True) if o.requires_grad]
    if not pairs or not parameters:
        return [None] * len(parameters)
    outputs, carried = map(list, zip(*pairs, strict=True))
    return torch.autograd.grad(outputs, parameters, carried, retain_graph=keep, allow_unused=True)


def _sum(one: Gradients, other: Gradients) -> Gradients:
    return [b if a is None else a if b is None else a + b for a, b in zip(one, other, strict=True)]


def _zero_filled(gradients: Gradients, of: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(x) if g is None else g for x, g in zip(of, gradients, strict=True)]
