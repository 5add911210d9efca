"""Bootstrap of a task's metrics over the images of a split.

Images are put into blocks by a hash of their names, and blocks are drawn with replacement. All
metric states are sums over images (see `metrics`), so the metrics of a draw follow from the sums of
the blocks' states, whatever the metric. The blocks and draws are the same in every run that is
evaluated on the same images, so the differences of two runs can be taken draw by draw.
"""

from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray

from mtl_lightning.tasks.base import Task
from mtl_lightning.tasks.group_states import GroupStates

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


class BlockStates(GroupStates):
    """The states of a task's metrics over each block of images.

    Args:
        task: The task, with known classes and statistics.
        device: Where the states are kept.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        super().__init__(task, device, BLOCKS)

    def resample(self, draws: int) -> dict[str, list[float]]:
        """Return each metric over ``draws`` bootstrap samples of the blocks.

        NaN where a metric is undefined in a draw, for example without any labelled image.
        """
        self._flush()
        states = {key: value.cpu() for key, value in self.states.items()}
        found: dict[str, list[float]] = {}
        for counts in torch.from_numpy(draw_counts(draws)):
            drawn = {
                key: torch.tensordot(counts.double(), own.double(), dims=1).to(own.dtype)
                for key, own in states.items()
            }
            for name, value in self._computed(drawn).items():
                found.setdefault(name, []).append(value)
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


def draw_counts(draws: int) -> NDArray[np.int64]:
    """Return how often each draw takes each block: ``(draws, BLOCKS)``, the same in every run."""
    random = np.random.default_rng(0)
    return random.multinomial(BLOCKS, np.full(BLOCKS, 1 / BLOCKS), size=draws)
