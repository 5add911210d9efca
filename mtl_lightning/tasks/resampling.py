"""Bootstrap of a task's metrics over the images of a split.

Images are put into blocks by a hash of their names, and blocks are drawn with replacement. All
metric states are sums over images (see `metrics`), so the metrics of a draw follow from the sums of
the blocks' states, whatever the metric. The blocks and draws are the same in every run that is
evaluated on the same images, so the differences of two runs can be taken draw by draw.
"""

import warnings
from collections.abc import Collection, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.base import Task
from mtl_lightning.tasks.metrics import TaskMetrics

BLOCKS = 128
"""Number of blocks; with n images each has n / 128, and small splits have blocks of one image."""

ERRORS = (
    "mae",
    "rmse",
    "rel",
    "angle_mean",
    "angle_median",
    "calibration_error",
    "calibration_error_before",
)
"""Metrics of which a lower value is better, also among several results of one metric."""
NEITHER = ("n_labelled", "coverage", "interval_width", "set_size")
"""Results of which neither is better by itself."""

_PENDING = 2**24
"""Bytes of outputs and targets that are kept until they are added, block by block."""


class BlockStates:
    """The states of a task's metrics over each block of images.

    Args:
        task: The task, with known classes and statistics.
        device: Where the states are kept.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task = task
        self.metrics = TaskMetrics(task).to(device).metrics  # it moves to any device
        for _, metric in self._metrics():
            metric.distributed_available_fn = _alone  # the states are summed once, see `sums`
        self.states: dict[tuple[str, str], Tensor] = {
            (name, state): torch.zeros((BLOCKS, *value.shape), dtype=value.dtype, device=device)
            for name, metric in self._metrics()
            for state, value in _states(metric).items()
        }
        self._pending: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def add(self, outputs: Tensor, targets: Tensor, labelled: Tensor, blocks: Tensor) -> None:
        """Add a batch.

        Args:
            outputs: ``(B, ...)`` outputs of the task.
            targets: ``(B, ...)``, undefined where a label is missing.
            labelled: ``(B,)`` bool, or ``(B, labels)``.
            blocks: ``(B,)`` int64, the block of each image.
        """
        rows = labelled.flatten(1).any(1) if labelled.ndim > 1 else labelled
        self._pending.append((outputs[rows], targets[rows], labelled[rows], blocks[rows]))
        if sum(each.nbytes for batch in self._pending for each in batch) > _PENDING:
            self._flush()

    @torch.no_grad()
    def _flush(self) -> None:
        if not self._pending:
            return
        outputs, targets, labelled, blocks = (
            torch.cat(each) for each in zip(*self._pending, strict=True)
        )
        self._pending = []
        for block in sorted(set(blocks.tolist())):
            rows = blocks == block
            self.metrics.reset()
            answers = self.task.measured(outputs[rows])
            self.task.update(self.metrics, answers, targets[rows], labelled[rows])
            for name, metric in self._metrics():
                for state, value in _states(metric).items():
                    self.states[name, state][block] += value

    def sums(self) -> list[Tensor]:
        """Return the states, ``(BLOCKS, ...)`` each, to be summed over ranks in place."""
        self._flush()
        return list(self.states.values())

    def resample(self, draws: int) -> dict[str, list[float]]:
        """Return each metric over ``draws`` bootstrap samples of the blocks.

        NaN where a metric is undefined in a draw, for example without any labelled image.
        """
        self._flush()
        states = {key: value.cpu() for key, value in self.states.items()}
        metrics = self.metrics.cpu()
        found: dict[str, list[float]] = {}
        for counts in torch.from_numpy(draw_counts(draws)):
            metrics.reset()
            for name, metric in self._metrics():
                for state in _states(metric):
                    own = states[name, state]
                    total = torch.tensordot(counts.double(), own.double(), dims=1).to(own.dtype)
                    setattr(metric, state, total)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*``compute`` method.*")
                for name, value in metrics.compute().items():
                    found.setdefault(name, []).append(float(value))
        return found

    def higher_is_better(self, names: Collection[str]) -> dict[str, bool | None]:
        """Return whether a higher value of each metric is better; None if that is not known.

        It is for every primary metric (see `Task.score`) that is no error.
        """
        own = dict(self._metrics())
        # A metric with several results may name them; otherwise there is one such, or it is alone.
        named = {name: each for each in own.values() for name in getattr(each, "names", ())}
        rest = [m for name, m in own.items() if name not in names and not hasattr(m, "names")]
        others = {metric.higher_is_better for metric in rest or own.values()}
        common = others.pop() if len(others) == 1 else None
        own |= named

        def better(name: str) -> bool | None:
            kind = name.partition("/")[0]
            if kind in NEITHER:
                return None
            if kind in ERRORS or name == self.task.primary:
                return kind not in ERRORS
            return own[name].higher_is_better if name in own else common

        return {name: better(name) for name in names}

    def _metrics(self) -> Iterator[tuple[str, Metric]]:
        for name, metric in self.metrics.items(keep_base=True, copy_state=False):
            yield str(name), metric


def draw_counts(draws: int) -> NDArray[np.int64]:
    """Return how often each draw takes each block: ``(draws, BLOCKS)``, the same in every run."""
    random = np.random.default_rng(0)
    return random.multinomial(BLOCKS, np.full(BLOCKS, 1 / BLOCKS), size=draws)


def _alone() -> bool:
    """Say that there are no other ranks to wait for."""
    return False


def _states(metric: Metric) -> dict[str, Tensor]:
    states: dict[str, Tensor] = {}
    for name, value in metric.metric_state.items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"bootstrap needs metrics whose states are sums. Found {type(metric).__name__}, "
                f"whose {name} is a list; set bootstrap to 0"
            )
        states[name] = value
    return states
