"""Members of an ensemble within one network: each row has an output of each of them.

Members are trained one by one, on the mean of their losses, and answer together. So in training
mode a head returns an output of each member for each row, and in evaluation mode their average.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Average = Callable[[Tensor], Tensor]
"""Maps the outputs of members, ``(B, members, ...)``, to the outputs of the ensemble,
``(B, ...)`` in at least float32."""


def mean(outputs: Tensor) -> Tensor:
    """Return the mean of the outputs."""
    return _wide(outputs).mean(1)


def log_mean_softmax(outputs: Tensor) -> Tensor:
    """Return logits whose softmax is the mean of the members' softmax."""
    return _log_mean(_wide(outputs).log_softmax(-1))


def log_mean_sigmoid(outputs: Tensor) -> Tensor:
    """Return logits whose sigmoid is the mean of the members' sigmoid."""
    wide = _wide(outputs)
    return _log_mean(F.logsigmoid(wide)) - _log_mean(F.logsigmoid(-wide))


def repeated(outputs: Tensor, *slots: Tensor) -> tuple[int, list[Tensor]]:
    """Repeat what there is once for each row, so that it fits the outputs of members.

    Args:
        outputs: ``(B * members, ...)``, those of a row one after another; or ``(B, ...)``.
        slots: ``(B, ...)`` each.

    Returns:
        The number of members, 1 for the outputs of an ensemble, and the tensors
        ``(B * members, ...)``.
    """
    members = _count(outputs, len(slots[0]))
    return members, [each.repeat_interleave(members, 0) if members > 1 else each for each in slots]


def averaged(outputs: Tensor, rows: int, average: Average) -> Tensor:
    """Return the outputs of the ensemble, ``(rows, ...)``, from those of a head in either mode."""
    members = _count(outputs, rows)
    return average(outputs.reshape(rows, members, *outputs.shape[1:])) if members > 1 else outputs


def _count(outputs: Tensor, rows: int) -> int:
    return len(outputs) // rows if rows else 1


def _log_mean(logarithms: Tensor) -> Tensor:
    return logarithms.logsumexp(1) - math.log(logarithms.shape[1])


def _wide(outputs: Tensor) -> Tensor:
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


class MemberLinear(nn.Module):
    """A linear layer of each member: (B, members, inputs) to (B, members, outputs).

    Args:
        members: The number of members.
        inputs: Of each.
        outputs: Of each. They are the first dimension of the parameters, as in ``nn.Linear``.
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(outputs, members, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs, members).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        """Apply each member's own layer."""
        bias, weight = self.bias.T[:, None], self.weight.permute(1, 2, 0)
        return torch.baddbmm(bias, values.transpose(0, 1), weight).transpose(0, 1)
