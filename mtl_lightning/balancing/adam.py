"""Adam on one number a task, of which only those present move."""

from collections.abc import Sequence

import torch
from torch import Tensor


def adam_state(tasks: int) -> dict[str, Tensor]:
    """Return the moments and the number of updates of each task, all 0."""
    return {name: torch.zeros(tasks, dtype=torch.float64) for name in ("mean", "square", "updates")}


def adam_step(
    state: dict[str, Tensor],
    values: Tensor,
    gradient: Tensor,
    present: Sequence[int],
    lr: float,
    weight_decay: float = 0.0,
) -> Tensor:
    """Return ``values`` (n,) of the tasks present after one step; moments change in place.

    As ``torch.optim.Adam`` with its default betas, except that a task that is absent keeps its
    moments and its count: torch would let it drift on old momentum, and leap when it comes back.
    """
    gradient = gradient + weight_decay * values
    mean = 0.9 * state["mean"][present] + 0.1 * gradient
    square = 0.999 * state["square"][present] + 0.001 * gradient**2
    updates = state["updates"][present] + 1
    state["mean"][present], state["square"][present] = mean, square
    state["updates"][present] = updates
    rate = lr / (1 - 0.9**updates)
    return values - rate * mean / ((square / (1 - 0.999**updates)).sqrt() + 1e-8)
