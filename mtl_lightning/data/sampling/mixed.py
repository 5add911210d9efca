"""Sources in fixed shares, the same in every step."""

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.data.sampling.base import (
    Population,
    Positions,
    Sampling,
    cycled,
)
from mtl_lightning.system.errors import UserError


class Mixed(Sampling):
    """Sources in fixed shares, spread evenly over the epoch so that every step has all of them.

    A source of n images gets a share in proportion to n^(1/T) (Arivazhagan et al. 2019, "Massively
    multilingual neural machine translation in the wild"). No image of a source is repeated before
    all of its images have been taken.

    Args:
        temperature: T. At 1 shares are proportional to the sizes, each image once; the higher, the
            more often small sources are taken, up to equal shares.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if not temperature >= 1:
            raise UserError(f"data.sampling: temperature should be 1 or more. Found {temperature}")
        self.temperature = temperature

    def draw(
        self, population: Population, step_rows: int, random: np.random.Generator
    ) -> Positions:
        """Return the sources interleaved; see `Sampling.draw`."""
        del step_rows
        names, sizes = np.unique(population.source, return_counts=True)
        shares = sizes.astype(np.float64) ** (1 / self.temperature)
        numbers = apportioned(shares, len(population))
        positions, moments = [], []
        for name, number in zip(names, numbers.tolist(), strict=True):
            own = np.flatnonzero(population.source == name)
            positions.append(cycled(own, number, random))
            # Each in a segment of its own, of equal lengths: neither bunched nor in phase.
            moments.append((np.arange(number) + random.random(number)) / max(number, 1))
        order = np.argsort(np.concatenate(moments), kind="stable")
        taken: Positions = np.concatenate(positions)[order]
        return taken


def apportioned(shares: NDArray[np.float64], total: int) -> Positions:
    """Return integers in proportion to the shares that sum to the total."""
    exact = shares / shares.sum() * total
    whole: Positions = np.floor(exact).astype(np.int64)
    rest = np.argsort(whole - exact, kind="stable")[: total - int(whole.sum())]
    whole[rest] += 1
    return whole
