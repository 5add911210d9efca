"""Each image once an epoch, in random order."""

import numpy as np

from mtl_lightning.data.sampling.base import Places, Population, Sampling


class Shuffled(Sampling):
    """Each image once, in random order: what is used if nothing else is said."""

    def draw(self, population: Population, step_rows: int, random: np.random.Generator) -> Places:
        """Return all images, shuffled; see `Sampling.draw`."""
        del step_rows
        return random.permutation(len(population))
