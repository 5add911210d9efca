"""A backbone for each task, tied to the others by a penalty."""

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.features import Features, FeatureSpec
from mtl_lightning.models.inputs import Inputs, InputSpecs, num_rows, take_rows
from mtl_lightning.models.named import NamedModules
from mtl_lightning.models.sharing.base import Sharing
from mtl_lightning.models.weights import LoadReport
from mtl_lightning.system.errors import UserError, did_you_mean, listed

Distance = Literal["mean", "pairwise"]


class Soft(Sharing):
    """Soft parameter sharing: a backbone for each task, pulled towards those of the others.

    With w_k the P tied parameters of the k-th of K backbones, and m their mean over k, this is
    added to the loss once in each optimizer step::

        mean:      strength / P * sum over k     of ||w_k - m||^2
        pairwise:  strength / P * sum over j < k of ||w_j - w_k||^2     (= K times the former)

    so that ``mean`` adds ``2 * strength / P * (w_k - m)`` to the gradient. Strength 0 is K
    independent networks; the larger it is, the closer this comes to hard sharing with the mean of
    the tasks' gradients (plain SGD with a learning rate above ``P / strength`` diverges; with
    ``pairwise``, above a K-th of that). P is the number of parameters of one backbone, so that a
    strength means the same for large and small ones: the mean squared distance of a weight.

    Squared L2 distances between the networks of two tasks: Duong, Cohn, Bird and Cook, "Low
    Resource Dependency Parsing: Cross-lingual Parameter Sharing in a Neural Network Parser", ACL
    2015. To the mean of any number of tasks: Evgeniou and Pontil, "Regularized Multi-Task
    Learning", KDD 2004. One whole network per task: Yang and Hospedales, "Trace Norm Regularised
    Deep Multi-Task Learning", ICLR workshop 2017 (with another norm). Dividing by P is ours.

    A task's backbone runs only on the rows that the task needs. Only parameters are tied, and only
    those trained at the time: frozen stages are equal from the start, and each backbone keeps its
    own batch norm statistics.

    Args:
        strength: Factor of the penalty, 0 or more.
        distance: The pairs between which squared distances are taken.
        stages: Tie only these stages of the backbone, by the names that its ``trainable_from``
            takes. Parameters of the trunk in no stage (position embeddings) go with the first
            stage, those of the pooling with none. None ties everything.

    Raises:
        UserError: If an argument is out of range; in `attach`, if the backbone lacks a stage.
    """

    backbones: NamedModules[Backbone]

    runs_labelled_rows = True

    def __init__(
        self, strength: float, distance: Distance = "mean", stages: list[str] | None = None
    ) -> None:
        super().__init__()
        if not 0 <= strength < math.inf:
            raise UserError(f"sharing: strength should be 0 or more. Found {strength}")
        if distance not in get_args(Distance):
            raise UserError(
                f"sharing: distance should be one of {listed(get_args(Distance))}. "
                f'Found "{distance}"{did_you_mean(distance, get_args(Distance))}'
            )
        if stages is not None and not stages:
            raise UserError("sharing: stages should name a stage, or be null for all. Found []")
        self.strength = strength
        self.distance = distance
        self.stages = stages

    def attach(self, backbone: Backbone, tasks: Sequence[str]) -> None:
        """Take the backbone for the first task, and a copy of it for each other task."""
        for stage in self.stages or ():
            if stage not in backbone.stages:
                raise UserError(
                    f"sharing: stages should be stages of {backbone.title}: "
                    f"{listed(backbone.stages, limit=40)}. "
                    f'Found "{stage}"{did_you_mean(stage, backbone.stages)}'
                )
        self._copies: list[tuple[nn.Parameter, ...]] | None = None
        first, *others = tasks
        self.backbones = NamedModules(
            {first: backbone} | {task: copy.deepcopy(backbone) for task in others}
        )

    def describe(self, inputs: InputSpecs) -> FeatureSpec:
        """Describe the features of a backbone; all have the same."""
        self._spec = next(iter(self.backbones.values())).describe(inputs)
        return self._spec

    def provide(self, reads: Mapping[str, Collection[str]]) -> None:
        """Let each backbone compute what the head of its own task reads."""
        self._copies = None
        for task, backbone in self.backbones.items():
            backbone.provide(reads[task])

    def load_pretrained(self) -> LoadReport | None:
        """Load the pretrained weights once, and copy them into every backbone."""
        first, *others = self.backbones.values()
        report = first.load_pretrained()
        if report is not None:
            for backbone in others:
                backbone.load_state_dict(first.state_dict())
        return report

    def forward(
        self, inputs: Inputs, rows: Mapping[str, Tensor] | None = None
    ) -> dict[str, Features]:
        """Run each backbone on the rows that its task needs; in others its features are 0."""
        if rows is None:
            return {task: backbone(inputs) for task, backbone in self.backbones.items()}
        # All of them first: on a GPU, each call waits for what was launched before.
        wanted = {task: _numbers(rows[task]) for task in self.backbones}
        return {task: self._features(task, inputs, wanted[task]) for task in self.backbones}

    def penalty(self) -> Tensor | None:
        """Return the penalty that the class describes; None if it is always 0."""
        tied = self._tied()
        if not tied:
            return None
        squares = torch.stack([_deviation(copies) for copies in tied]).sum()
        if self.distance == "pairwise":
            squares = len(self.backbones) * squares
        return squares * (self.strength / sum(copies[0].numel() for copies in tied))

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        """Return the parameters of the task's backbone that the penalty does not reach.

        The parameters that it reaches follow the other backbones in a step without a label of the
        task: see `update_absent`. With strength 0, or one task, none are tied, so the whole
        backbone is returned and stays as it is in such a step.
        """
        tied = {parameter for copies in self._tied() for parameter in copies}
        return [p for p in self.backbones[task].parameters() if p not in tied]

    def shared_parameters(
        self,
        tasks: Sequence[str],  # noqa: ARG002 - the same for any
    ) -> list[nn.Parameter]:
        """Return nothing: no loss reaches the backbone of another task."""
        return []

    @torch.no_grad()
    def update_absent(self, absent: Collection[str], rates: Mapping[nn.Parameter, float]) -> None:
        """Move the backbones of absent tasks by the penalty alone, at their learning rates.

        A gradient step: ``w_k`` moves by ``2 * rate * strength / P`` (``pairwise``: K times that)
        of its distance to ``m``, but not beyond ``m``, so that no strength makes it diverge.
        The optimizer's momentum and weight decay do not move them.
        """
        tied = self._tied()
        numbers = [n for n, task in enumerate(self.backbones) if task in absent]
        pull = 2 * self.strength / max(sum(copies[0].numel() for copies in tied), 1)
        if self.distance == "pairwise":
            pull *= len(self.backbones)
        for copies in tied:
            mean = _mean(copies)
            for number in numbers:
                weight = copies[number]
                weight.lerp_(mean, min(pull * rates[weight], 1.0))
                weight.grad = None

    def _features(self, task: str, inputs: Inputs, wanted: Tensor) -> Features:
        backbone, rows = self.backbones[task], num_rows(inputs)
        if not len(wanted):
            return _zeros(backbone, rows, self._spec)
        try:
            computed: Features = backbone(take_rows(inputs, wanted))
        except ValueError as error:
            if len(wanted) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                f"task {task}: batch norm of its backbone cannot learn from the only image of a "
                "batch that has its label, at this size: set a larger data.image_size or "
                "data.batch_size, or sharing: Hard"
            ) from error
        return {
            name: values.new_zeros(rows, *values.shape[1:]).index_copy(0, wanted, values)
            for name, values in computed.items()
        }

    def _tied(self) -> list[tuple[nn.Parameter, ...]]:
        """Return the parameters that the penalty reaches, each with its copies for all tasks."""
        if self.strength == 0 or len(self.backbones) == 1:
            return []
        if self._copies is None:  # kept, since each step asks several times
            chosen = [self._chosen(backbone) for backbone in self.backbones.values()]
            # A backbone has no pooling if its head has one; the others' poolings are not tied then.
            names = [name for name in chosen[0] if all(name in own for own in chosen)]
            self._copies = [tuple(own[name] for own in chosen) for name in names]
        return [copies for copies in self._copies if copies[0].requires_grad]

    def _chosen(self, backbone: Backbone) -> dict[str, nn.Parameter]:
        if self.stages is None:
            return dict(backbone.named_parameters())
        stage_of = {
            parameter: name
            for name, modules in backbone.stages.items()
            for module in modules
            for parameter in module.parameters()
        }
        first = next(iter(backbone.stages))
        return {
            name: parameter
            for name, parameter in backbone.trunk.named_parameters()
            if stage_of.get(parameter, first) in self.stages
        }


def _numbers(mask: Tensor) -> Tensor:
    """Return the indices of rows with any True: (B,) or (B, labels) bool to (n,) int64."""
    return mask.flatten(1).any(1).nonzero()[:, 0] if mask.ndim > 1 else mask.nonzero()[:, 0]


def _zeros(backbone: Backbone, rows: int, spec: FeatureSpec) -> Features:
    """Return features of 0 that give every trained parameter a gradient of 0.

    So all take part in the step, as DDP requires, and no batch norm sees an empty batch. The sums
    are over empty slices: they read no weight, and cannot turn an infinite one into NaN.
    """
    trained = [p for p in backbone.parameters() if p.requires_grad]
    nothing = torch.stack([p[None][:0].sum() for p in trained]).sum() if trained else 0
    zeros = torch.zeros((), dtype=backbone.dtype, device=backbone.device)
    return {name: zeros.new_zeros(rows, *spec.shape(name)) + nothing for name in backbone.provided}


def _deviation(copies: Sequence[Tensor]) -> Tensor:
    """Return the sum of the squared distances of K tensors of one shape from their mean."""
    with torch.no_grad():  # deviations sum to 0, so no gradient passes through the mean
        mean = _mean(copies)
    # mse_loss saves its arguments for the backward pass, not their K differences: less memory.
    return torch.stack([F.mse_loss(each, mean, reduction="sum") for each in copies]).sum()


def _mean(copies: Sequence[Tensor]) -> Tensor:
    # Starting from the first, so that the mean of equal tensors is exactly equal to them.
    return copies[0] + sum(other - copies[0] for other in copies[1:]) / len(copies)
