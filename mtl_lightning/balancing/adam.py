"""Adam for one value per task, of which only those of the active tasks move."""

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
    active: Sequence[int],
    lr: float,
    weight_decay: float = 0.0,
) -> Tensor:
    """Return the active tasks' ``values`` (n,) after one step; the moments change in place.

    As ``torch.optim.Adam`` with its default betas, except that an absent task keeps its moments and
    its count: torch would let it drift on old momentum, and jump when it returns.
    """
    gradient = gradient + weight_decay * values
    mean = 0.9 * state["mean"][active] + 0.1 * gradient
    square = 0.999 * state["square"][active] + 0.001 * gradient**2
    updates = state["updates"][active] + 1
    state["mean"][active], state["square"][active] = mean, square
    state["updates"][active] = updates
    rate = lr / (1 - 0.9**updates)
    return values - rate * mean / ((square / (1 - 0.999**updates)).sqrt() + 1e-8)
