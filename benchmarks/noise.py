"""Random images with chosen labels, for the benchmarks of a training step."""

from collections.abc import Mapping, Sequence

import numpy as np
from step_overhead import BuiltBefore, Noise

from mtl_lightning import Classification
from mtl_lightning.data.sources.base import SourceTable


class LabelledNoise(Noise):
    """Random images, each with a label of one task, cycling through the tasks; or with all labels.

    Args:
        rows: Number of images.
        size: Height and width in pixels.
        classes: Task to the number of its classes.
        every: Whether every image has a label of every task.
    """

    def __init__(self, rows: int, size: int, classes: Mapping[str, int], every: bool) -> None:
        super().__init__(rows, size)
        self.classes, self.every = classes, every

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Draw the labels."""
        rng = np.random.default_rng(0)
        # One more row, for val: otherwise it would be taken from train.
        keys = np.array([f"noise:{row}" for row in range(self.rows + 1)], dtype=object)
        labels = {}
        for number, task in enumerate(tasks):
            cells = rng.integers(self.classes[task], size=len(keys)).astype(str).astype(object)
            if not self.every:
                cells[np.arange(len(keys)) % len(tasks) != number] = None
            labels[task] = cells
        splits = np.array(["train"] * self.rows + ["val"], dtype=object)
        return SourceTable("noise", images=keys, keys=keys, labels=labels, splits=splits)


def tasks_of(classes: Mapping[str, int]) -> dict[str, Classification]:
    """Build the tasks, with classes 0, 1, 2 and so on."""
    return {name: Classification([str(i) for i in range(n)]) for name, n in classes.items()}


def built_before(
    classes: Mapping[str, int], steps: int, batch_size: int, size: int, every: bool
) -> BuiltBefore:
    """Return data of one epoch of that many steps, whose loading takes no time."""
    source = LabelledNoise(steps * batch_size, size, classes, every)
    return BuiltBefore(
        dict(tasks_of(classes)),
        {"noise": source},
        image_size=size,
        batch_size=batch_size,
        num_workers=0,
        augmentation="none",
    )
