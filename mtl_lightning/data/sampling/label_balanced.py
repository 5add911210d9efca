"""Sampling rare tasks and rare classes more often."""

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.data.sampling.base import Population, Positions, Sampling
from mtl_lightning.system.errors import UserError


class LabelBalanced(Sampling):
    """Images with rare labels are taken more often, and some others are left out of an epoch.

    Every task gets the same share, every class of a task the same share of that, and every image of
    a class the same share again; an image with several labels gets the sum. How often an image is
    taken is its share, rounded up or down at random, so that an epoch is as balanced as possible.

    Args:
        strength: From 0 (each image once) to 1 (fully balanced); shares are mixed in between.
    """

    def __init__(self, strength: float = 1.0) -> None:
        if not 0 <= strength <= 1:
            raise UserError(f"data.sampling: strength should be in 0..1. Found {strength}")
        self.strength = strength

    def draw(
        self, population: Population, step_rows: int, random: np.random.Generator
    ) -> Positions:
        """Return images by their shares, shuffled; see `Sampling.draw`."""
        del step_rows
        number = len(population)
        shares = (1 - self.strength) / number + self.strength * self._balanced(population)
        # Systematic sampling: one draw, then equal steps along the shares, so that images with the
        # same labels, which are adjacent in random order, are taken as often as they should be.
        order = np.lexsort([random.random(number), *population.strata.values()])
        ends = np.cumsum(shares[order])
        marks = (np.arange(number) + random.random()) / number * ends[-1]
        return random.permutation(order[np.searchsorted(ends, marks, side="right")])

    @staticmethod
    def _balanced(population: Population) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.zeros(len(population))
        for strata in population.strata.values():
            labelled = strata >= 0
            if labelled.any():
                sizes = np.bincount(strata[labelled])
                own = 1 / sizes[strata[labelled]]
                total[labelled] += own / own.sum()
        total /= total.sum()
        return total
