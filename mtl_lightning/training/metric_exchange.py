"""The exchange of metrics between ranks, all in one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors


@contextmanager
def exchanged_at_once(metrics: nn.Module) -> Iterator[None]:
    """Gather the states of all metrics in one exchange per type, and have each metric use it.

    On its own, torchmetrics waits for all ranks two or three times for each state: a network of
    15 tasks does so 500 times after each epoch. The results are the same bit for bit.

    Args:
        metrics: A module of metrics, all of which are computed in the context on every rank.
    """
    if not (dist.is_available() and dist.is_initialized()):
        yield
        return
    waiting = [m for m in metrics.modules() if isinstance(m, Metric) and _is_plain(m)]
    states = [state for metric in waiting for state in metric.metric_state.values()]
    gathered = _gather([state for state in states if isinstance(state, Tensor)])

    def look_up(state: Tensor, group: Any = None) -> list[Tensor]:
        found = gathered.get(id(state))  # not a list of values, whose lengths differ by rank
        return gather_all_tensors(state, group) if found is None else found

    for metric in waiting:
        metric.dist_sync_fn = look_up
    try:
        yield
    finally:
        for metric in waiting:
            metric.dist_sync_fn = None


def _is_plain(metric: Metric) -> bool:
    """Whether a metric is exchanged between all ranks, by the function of torchmetrics."""
    return metric.dist_sync_fn is None and metric.process_group is None


def _gather(states: list[Tensor]) -> dict[int, list[Tensor]]:
    """Return the values of all ranks by the identity of each state.

    A state that is a tensor has the same shape on each rank, or torchmetrics could not stack it.
    """
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for state in states:
        kinds.setdefault((state.device, state.dtype), []).append(state)
    found = {}
    for alike in kinds.values():
        flat = torch.cat([state.detach().flatten() for state in alike])
        ranks = [torch.empty_like(flat) for _ in range(dist.get_world_size())]
        dist.all_gather(ranks, flat)
        parts = [torch.split(rank, [state.numel() for state in alike]) for rank in ranks]
        for state, *values in zip(alike, *parts, strict=True):
            found[id(state)] = [value.view(state.shape) for value in values]
    return found
