"""From features to the outputs of one task, and the settings of a head."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor, nn

from mtl_lightning.models.features import POOLED, FeatureSpec
from mtl_lightning.models.members import Average, MemberLinear, mean
from mtl_lightning.models.pooling import PoolingName, pooling_layer
from mtl_lightning.system.errors import UserError

HeadFactory = Callable[[FeatureSpec], nn.Module]
"""Makes a head for a backbone's features.

A head is any module. Its attribute ``reads`` names the features that it reads: ``pooled`` by
default, or maps by stage. ``forward`` gets these tensors as arguments, in that order, and returns
``(B, outputs)``, or whatever else, ``(B, ...)``, its task reads. In training mode it may return
``(B * members, ...)``, see `mtl_lightning.models.members`.
"""


@dataclass(frozen=True)
class HeadOptions:
    """The settings of a task's head; the model's apply where it has none.

    Args:
        pooling: A pooling of this task alone, instead of the backbone's, which tasks share.
        dropout: Share of the features (and hidden units) that are dropped in training.
        hidden: Units of a hidden layer; 0 for a linear head.

    Raises:
        UserError: If ``dropout`` or ``hidden`` is out of range.
    """

    pooling: PoolingName | None = None
    dropout: float | None = None
    hidden: int | None = None

    def __post_init__(self) -> None:
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UserError(f"head: dropout should be in 0..1 (1 excluded). Found {self.dropout}")
        if self.hidden is not None and self.hidden < 0:
            raise UserError(
                f"head: hidden should be 1 or more, or 0 for a linear head. Found {self.hidden}"
            )

    def over(self, defaults: "HeadOptions") -> "HeadOptions":
        """Return these settings, with the defaults where there is none."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return HeadOptions(
            **{k: getattr(defaults, k) if value is None else value for k, value in own.items()}
        )


class Head(nn.Sequential):
    """Layers in sequence that read one tensor of the features.

    Args:
        reads: The name of the tensor.
        layers: The layers.
        average: Makes one output of those of members, if the layers return ``(B, members, ...)``.
    """

    def __init__(self, reads: str, *layers: nn.Module, average: Average | None = None) -> None:
        super().__init__(*layers)
        self.reads = (reads,)
        self.average = average

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs of each row, or those of each member: see `HeadFactory`."""
        outputs: Tensor = super().forward(features)  # type: ignore[no-untyped-call]  # of torch
        if self.average is None:
            return outputs
        return outputs.flatten(0, 1) if self.training else self.average(outputs)


def build_head(
    features: FeatureSpec, num_outputs: int, options: HeadOptions, average: Average = mean
) -> Head:
    """Build a linear head, or one with a hidden layer.

    Args:
        features: The features of the backbone.
        num_outputs: Number of outputs of the task.
        options: Without a pooling, the head reads the vector that the backbone pools for all
            heads; with one, it pools the last map itself.
        average: Makes one output of those of members, if there are any.

    Returns:
        (pooling,) dropout, linear; or (pooling,) dropout, linear, ReLU, dropout, linear. Members
        have linear layers of their own.

    Raises:
        UserError: If there is no such pooling.
    """
    dropout, hidden = options.dropout or 0.0, options.hidden
    reads, width, layers = POOLED, features.pooled, list[nn.Module]()
    if options.pooling is not None:
        pooling = pooling_layer(options.pooling)
        reads, layers = features.last, [pooling]
        with torch.no_grad():
            width = pooling(torch.zeros(1, *features.shape(reads))).shape[1]
    members = features.members
    linear: Callable[[int, int], nn.Module] = nn.Linear
    if members > 1:
        width //= members
        layers.append(nn.Unflatten(1, (members, width)))
        linear = partial(MemberLinear, members)
    if hidden:
        layers += [nn.Dropout(dropout), linear(width, hidden), nn.ReLU()]
        width = hidden
    layers += [nn.Dropout(dropout), linear(width, num_outputs)]
    return Head(reads, *layers, average=average if members > 1 else None)


def reads_of(head: nn.Module) -> tuple[str, ...]:
    """Return the names of the features that a head reads."""
    return tuple(getattr(head, "reads", (POOLED,)))
