"""The metrics of a task over each of several groups of rows."""

import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_sum

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.base import Task
from mtl_lightning.tasks.metrics import TaskMetrics

_PENDING = 2**24
"""Bytes of outputs and targets that are kept until they are added, group by group."""
COUNT = ("", "n_labelled")
"""The key of the number of labels."""


class GroupStates:
    """The states of a task's metrics over each group of rows, and the number of its labels.

    They are those of `TaskMetrics`, which are sums: the states of all groups of a partition add up
    to those of the whole, as do those of all ranks.

    Args:
        task: The task, with known classes and statistics.
        device: Where the states are kept.
        groups: The number of groups.

    Raises:
        UserError: If a state of a metric is not a sum.
    """

    def __init__(self, task: Task, device: torch.device, groups: int) -> None:
        self.task = task
        self.groups = groups
        self.metrics = TaskMetrics(task).to(device).metrics  # it moves to any device
        for _, metric in self._metrics():
            metric.distributed_available_fn = _alone  # the states are summed once, see `sums`
        self.states: dict[tuple[str, str], Tensor] = {
            (name, state): torch.zeros((groups, *value.shape), dtype=value.dtype, device=device)
            for name, metric in self._metrics()
            for state, value in _checked(metric).items()
        }
        self.states[COUNT] = torch.zeros(groups, dtype=torch.long, device=device)
        self._pending: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def add(self, outputs: Tensor, targets: Tensor, labelled: Tensor, groups: Tensor) -> None:
        """Add a batch.

        Args:
            outputs: ``(B, ...)`` outputs of the task.
            targets: ``(B, ...)``, undefined where a label is missing.
            labelled: ``(B,)`` bool, or ``(B, labels)``.
            groups: ``(B,)`` int64, the group of each row.
        """
        rows = labelled.flatten(1).any(1) if labelled.ndim > 1 else labelled
        self._pending.append((outputs[rows], targets[rows], labelled[rows], groups[rows]))
        if sum(each.nbytes for batch in self._pending for each in batch) > _PENDING:
            self._flush()

    @torch.no_grad()
    def _flush(self) -> None:
        if not self._pending:
            return
        outputs, targets, labelled, groups = (
            torch.cat(each) for each in zip(*self._pending, strict=True)
        )
        self._pending = []
        counts = labelled.flatten(1).sum(1) if labelled.ndim > 1 else labelled.long()
        self.states[COUNT].index_add_(0, groups, counts)
        for group in sorted(set(groups.tolist())):
            rows = groups == group
            self.metrics.reset()
            answers = self.task.measured(outputs[rows])
            self.task.update(self.metrics, answers, targets[rows], labelled[rows])
            for name, metric in self._metrics():
                for state, value in _states(metric).items():
                    self.states[name, state][group] += value

    def sums(self) -> list[Tensor]:
        """Return the states, ``(groups, ...)`` each, to be summed over ranks in place."""
        self._flush()
        return list(self.states.values())

    def values(self) -> list[dict[str, float]]:
        """Return ``n_labelled`` and, unless it is 0, the metrics of each group."""
        self._flush()
        states = {key: value.cpu() for key, value in self.states.items()}
        found: list[dict[str, float]] = []
        for group, count in enumerate(states[COUNT].tolist()):
            own = {key: value[group] for key, value in states.items()} if count else {}
            found.append({"n_labelled": count} | (self._computed(own) if count else {}))
        return found

    def _computed(self, states: Mapping[tuple[str, str], Tensor]) -> dict[str, float]:
        """Return the metrics with these states, on the CPU."""
        metrics = self.metrics.cpu()
        metrics.reset()
        for name, metric in self._metrics():
            for state in _states(metric):
                setattr(metric, state, states[name, state])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*``compute`` method.*")
            return {name: float(value) for name, value in metrics.compute().items()}

    def _metrics(self) -> Iterator[tuple[str, Metric]]:
        for name, metric in self.metrics.items(keep_base=True, copy_state=False):
            yield str(name), metric


def _alone() -> bool:
    """Say that there are no other ranks to wait for."""
    return False


def _checked(metric: Metric) -> dict[str, Tensor]:
    """Return the states of a new metric.

    Raises:
        UserError: If one is not a sum, which starts at 0.
    """
    for name, value in metric.metric_state.items():
        found = "none" if isinstance(value, Tensor) else "a list"
        is_sum = metric._reductions[name] is dim_zero_sum
        if not isinstance(value, Tensor) or not is_sum or value.any():
            raise UserError(
                f"a metric's states should be sums, to be added up by group. Found "
                f"{type(metric).__name__}, whose {name} is {found}; change `Task.metrics`, or "
                f"leave --bootstrap out"
            )
    return _states(metric)


def _states(metric: Metric) -> dict[str, Tensor]:
    return {name: value for name, value in metric.metric_state.items() if isinstance(value, Tensor)}
