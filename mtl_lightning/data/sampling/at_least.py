"""Some labels of every task in every step."""

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.data.sampling.base import (
    Population,
    Positions,
    Sampling,
    cycled,
)
from mtl_lightning.system.errors import UserError


class AtLeast(Sampling):
    """A number of labelled images of every task in each step, over all ranks.

    The rarest task is distributed first. If a task has too few labels for all steps, its images are
    repeated, and as many others are left out of the epoch. If the last step is shorter than the
    others, it gets what fits, in the same order.

    Args:
        number: Number of images of each task in each step.
    """

    def __init__(self, number: int = 1) -> None:
        if number < 1:
            raise UserError(f"data.sampling: number should be 1 or more. Found {number}")
        self.number = number

    def check(self, population: Population, step_rows: int) -> None:
        """Refuse more images than fit in a step."""
        needed = self.number * len(population.strata)
        if needed > step_rows:
            raise UserError(
                f"data.sampling: {self.number} labelled images of each of {len(population.strata)} "
                f"tasks are {needed}, and a step has {step_rows} images (data.batch_size, devices, "
                f"trainer.accumulate_grad_batches); take fewer, or make steps larger"
            )

    def draw(
        self, population: Population, step_rows: int, random: np.random.Generator
    ) -> Positions:
        """Return steps that each have their images of every task; see `Sampling.draw`."""
        total = len(population)
        has = np.stack([strata >= 0 for strata in population.strata.values()], axis=1)
        room = np.full(-(-total // step_rows), step_rows)
        room[-1] = total - step_rows * (len(room) - 1)
        steps: list[list[int]] = [[] for _ in room]
        free = np.ones(total, dtype=bool)
        for task in np.argsort(has.sum(0), kind="stable"):
            if has[:, task].any():
                self._deal(has[:, task], steps, room, free, random)
        rest = random.permutation(np.flatnonzero(free)).tolist()
        for step, size in zip(steps, room.tolist(), strict=True):
            missing = size - len(step)
            step += rest[:missing]
            del rest[:missing]
        return np.concatenate([random.permutation(np.array(step, np.int64)) for step in steps])

    def _deal(
        self,
        labelled: NDArray[np.bool_],
        steps: list[list[int]],
        room: NDArray[np.int64],
        free: NDArray[np.bool_],
        random: np.random.Generator,
    ) -> None:
        """Add to each step what it lacks of a task: unused images first, then any."""
        lacks = [
            max(min(self.number - int(labelled[step].sum()), int(size) - len(step)), 0)
            for step, size in zip(steps, room, strict=True)
        ]
        fresh = random.permutation(np.flatnonzero(free & labelled))
        again = cycled(np.flatnonzero(labelled), max(sum(lacks) - len(fresh), 0), random)
        positions = np.concatenate([fresh, again]).tolist()
        free[fresh[: sum(lacks)]] = False
        for number in random.permutation(len(steps)).tolist():  # not always short in the last steps
            steps[number] += positions[: lacks[number]]
            del positions[: lacks[number]]
