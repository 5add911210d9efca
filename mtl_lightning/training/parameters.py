"""The optimizer's parameter groups, and parameters that a step should not move."""

from collections.abc import Collection, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from mtl_lightning.models import Network


def parameter_groups(
    network: Network, of_balancing: Iterable[nn.Parameter]
) -> list[dict[str, Any]]:
    """Return the groups ``heads``, ``backbone`` and ``balancing``, without empty ones.

    Args:
        network: The network; only its trained parameters are used.
        of_balancing: Parameters that a balancing learns. They have no weight decay, which would
            pull the weights of the tasks back to their initial values.
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
    """Make the optimizer skip these parameters, including their momentum and weight decay."""
    for parameter in parameters:
        parameter.grad = None


def leave_absent(network: Network, absent: Collection[str], optimizer: Optimizer) -> None:
    """Keep parameters that serve only tasks without a label in the step as they are.

    Their gradient is 0, but weight decay and momentum would move them. Parameters that a penalty of
    the sharing ties to other tasks do follow these.

    Args:
        network: The network with the gradients of the step.
        absent: The tasks without a label in it, not all.
        optimizer: The optimizer before its step.
    """
    for task in absent:
        drop_gradients(network.own_parameters(task))
    if absent:
        groups = optimizer.param_groups
        network.update_absent(absent, {p: group["lr"] for group in groups for p in group["params"]})
