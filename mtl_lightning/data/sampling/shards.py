"""Each image once, in the order of shards: a few shards at a time."""

import numpy as np

from mtl_lightning.data.sampling.base import Population, Positions, Sampling
from mtl_lightning.system.errors import UserError


class Shards(Sampling):
    """Each image once: the shards in random order, their images shuffled over a few of them.

    It is for images that are fetched a shard at a time, which then happens once an epoch; litdata,
    MosaicML's streaming and WebDataset do the same. All ranks go through the same shards, so each
    machine fetches all of them.

    Images that lie in no shard are spread over the whole epoch.

    Args:
        window: How many shards images are taken from at a time.
    """

    def __init__(self, window: int = 4) -> None:
        if window < 1:
            raise UserError(f"data.sampling: window should be 1 or more. Found {window}")
        self.window = window

    def draw(
        self, population: Population, step_rows: int, random: np.random.Generator
    ) -> Positions:
        """Return all images, shard after shard; see `Sampling.draw`."""
        del step_rows
        shards, number = np.unique(population.shard, return_inverse=True)
        alone = int((shards < 0).sum())  # 0, or 1: the images of no shard have number 0
        count = len(shards) - alone
        # An epoch lasts from 0 to `length`. The images of a shard have their moments around its
        # own, no further than half a window: so at no moment are there more shards than that.
        length = max(count, 1)
        middle = np.concatenate([np.full(alone, length / 2), random.permutation(count) + 0.5])
        half = np.concatenate([np.full(alone, length / 2), np.full(count, self.window / 2)])
        begin = np.maximum(middle - half, 0)[number]
        end = np.minimum(middle + half, length)[number]
        moments = begin + random.random(len(population)) * (end - begin)
        order: Positions = np.argsort(moments, kind="stable")
        return order
