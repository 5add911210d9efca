"""The base class of samplings, which choose what an epoch trains on.

Adding one: one file here with one class, one line in ``__init__.py`` and one test file. Derive from
`Sampling`; the constructor takes what a config says, explicit and annotated.

The step plan deals out what `Sampling.draw` gives to ranks and micro-batches, counts its labels,
and finds its place in it again after an interruption: so it must depend on its arguments alone. An
epoch has as many positions as there are training images, whichever images stand at them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Population:
    """What is known of the training images, n of them.

    Attributes:
        source: (n,) int, the number of the source that each is of.
        shard: (n,) int64, the number of the file that holds it beside others, -1 where it is found
            by itself.
        strata: Task to (n,) int64, which class of the task each is of, 0 where the task has no
            classes, or -1 where it carries no label.
    """

    source: NDArray[np.integer]
    shard: NDArray[np.int64]
    strata: Mapping[str, NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.source)


class Sampling(ABC):
    """A way to choose what an epoch trains on."""

    def check(self, population: Population, step_rows: int) -> None:
        """Refuse settings that these images cannot meet.

        Args:
            population: The training images.
            step_rows: How many images one optimizer step has, on all ranks together.

        Raises:
            UserError: If there are such.
        """
        del population, step_rows

    @abstractmethod
    def draw(
        self, population: Population, step_rows: int, random: np.random.Generator
    ) -> Positions:
        """Return what an epoch takes, in order.

        Args:
            population: The training images.
            step_rows: How many images one optimizer step has, on all ranks together.
            random: Of this epoch, the same on every rank.

        Returns:
            (n,) positions of images; some may be there twice, and others not.
        """


def cycled(positions: Positions, number: int, random: np.random.Generator) -> Positions:
    """Return so many of the positions in random order, none again before all have been there."""
    rounds = [random.permutation(positions) for _ in range(-(-number // len(positions)))]
    return np.concatenate([*rounds, positions[:0]])[:number]
