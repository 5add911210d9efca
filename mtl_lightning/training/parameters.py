"""The optimizer's parameter groups, and what a step leaves alone."""

from collections.abc import Collection, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from mtl_lightning.models import Network


def parameter_groups(
    network: Network, of_balancing: Iterable[nn.Parameter]
) -> list[dict[str, Any]]:
    """Return the groups ``heads``, ``backbone`` and ``balancing``, without any that is empty.

    Args:
        network: Of it what is trained.
        of_balancing: What a balancing learns. It has no weight decay, which would pull the weights
            of the tasks to where they began.
    """
    groups: list[dict[str, Any]] = [
        {"name": name, "params": [p for p in parameters if p.requires_grad]}
        for name, parameters in (
            ("heads", network.head_parameters()),
            ("backbone", network.backbone_parameters()),
        )
    ]
    groups.append({"name": "balancing", "params": list(of_balancing), "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def drop_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Let the optimizer pass these by, their momentum and weight decay included."""
    for parameter in parameters:
        parameter.grad = None


def leave_absent(network: Network, absent: Collection[str], optimizer: Optimizer) -> None:
    """Leave alone what serves only tasks without a label in the step.

    Their gradient is 0, but weight decay and momentum would move them; what a penalty of the
    sharing ties to other tasks follows these.

    Args:
        network: With the gradients of the step.
        absent: Tasks without a label in it, not all.
        optimizer: Before its step.
    """
    for task in absent:
        drop_gradients(network.own_parameters(task))
    if absent:
        groups = optimizer.param_groups
        network.update_absent(absent, {p: group["lr"] for group in groups for p in group["params"]})
