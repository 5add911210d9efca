"""Each image once, in the order of dates."""

import numpy as np

from mtl_lightning.data.sampling.base import Population, Positions, Sampling
from mtl_lightning.system.errors import UserError


class TimeOrder(Sampling):
    """Each image once, the oldest first; those of one date in random order.

    A step then holds what was seen at about the same time, and the last steps of an epoch the
    newest, as when a model is updated while data arrive. Needs ``date`` in the sources.
    """

    def check(self, population: Population, step_rows: int) -> None:
        """Refuse images without a date; see `Sampling.check`."""
        del step_rows
        without = len(population)
        if population.dates is not None:
            without = int(np.isnat(population.dates).sum())
        if without:
            raise UserError(
                f"data.sampling: TimeOrder needs a date for each training image. Found none for "
                f"{without:,} of {len(population):,}; set `date: COLUMN` in their source"
            )

    def draw(
        self, population: Population, step_rows: int, random: np.random.Generator
    ) -> Positions:
        """Return all images in the order of dates; see `Sampling.draw`."""
        del step_rows
        shuffled = random.permutation(len(population))
        assert population.dates is not None  # `check`
        order: Positions = shuffled[np.argsort(population.dates[shuffled], kind="stable")]
        return order
