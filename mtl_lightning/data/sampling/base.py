"""The base class of samplings, which choose what an epoch trains on.

Adding one: one file here with one class, one line in ``__init__.py`` and one test file. Derive from
`Sampling`; the constructor takes the settings of a config, explicit and annotated.

The step plan distributes the result of `Sampling.draw` to ranks and micro-batches, counts its
labels, and finds its position in it after an interruption: so it must depend only on its arguments.
An epoch has as many positions as there are training images, whichever images are in them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.data.dates import Dates

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Population:
    """Data on the n training images that a sampling may use.

    Attributes:
        source: (n,) int, the number of each image's source.
        shard: (n,) int64, the number of the file that holds the image and others, -1 if it is a
            file of its own.
        strata: Task to (n,) int64, the class of each image, 0 if the task has no classes, or -1 if
            the image has no label.
        dates: (n,) datetime64[us], NaT for an image without one; None if no image has one.
    """

    source: NDArray[np.integer]
    shard: NDArray[np.int64]
    strata: Mapping[str, NDArray[np.int64]]
    dates: Dates | None = None

    def __len__(self) -> int:
        return len(self.source)


class Sampling(ABC):
    """Chooses what an epoch trains on."""

    def check(self, population: Population, step_rows: int) -> None:
        """Refuse settings that these images cannot meet.

        Args:
            population: The training images.
            step_rows: The number of images of one optimizer step, over all ranks.

        Raises:
            UserError: If it cannot.
        """
        del population, step_rows

    @abstractmethod
    def draw(
        self, population: Population, step_rows: int, random: np.random.Generator
    ) -> Positions:
        """Return the images of an epoch in order.

        Args:
            population: The training images.
            step_rows: The number of images of one optimizer step, over all ranks.
            random: The generator of this epoch, the same on every rank.

        Returns:
            (n,) positions of images; some may occur twice, and others not at all.
        """


def cycled(positions: Positions, number: int, random: np.random.Generator) -> Positions:
    """Return positions in random order, repeating one only after all have occurred."""
    rounds = [random.permutation(positions) for _ in range(-(-number // len(positions)))]
    return np.concatenate([*rounds, positions[:0]])[:number]
