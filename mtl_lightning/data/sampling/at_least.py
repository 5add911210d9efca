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
    """So many labelled images of every task in each step, on all ranks together.

    The rarest task is dealt out first. Where a task has too few labels for all steps its images are
    taken again, and as many others are left out of the epoch. In a last step that is shorter than
    the others there is what has room, in the same order.

    Args:
        number: Of images of each task, in each step.
    """

    def __init__(self, number: int = 1) -> None:
        if number < 1:
            raise UserError(f"data.sampling: number should be 1 or more. Found {number}")
        self.number = number

    def check(self, population: Population, step_rows: int) -> None:
        """Refuse more than a step has room for."""
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
        """Return steps that each have their share of every task; see `Sampling.draw`."""
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
        """Add to each step what it lacks of a task: images that are free, then again any."""
        lacks = [
            max(min(self.number - int(labelled[step].sum()), int(size) - len(step)), 0)
            for step, size in zip(steps, room, strict=True)
        ]
        fresh = random.permutation(np.flatnonzero(free & labelled))
        again = cycled(np.flatnonzero(labelled), max(sum(lacks) - len(fresh), 0), random)
        positions = np.concatenate([fresh, again]).tolist()
        free[fresh[: sum(lacks)]] = False
        for number in random.permutation(len(steps)).tolist():  # not always the last go without
            steps[number] += positions[: lacks[number]]
            del positions[: lacks[number]]
