"""Each image once, in the order of shards, a few shards at a time."""

import numpy as np

from mtl_lightning.data.sampling.base import Population, Positions, Sampling
from mtl_lightning.system.errors import UserError


class Shards(Sampling):
    """Each image once: the shards in random order, their images shuffled over a few of them.

    For images that are fetched by shard, so that each shard is fetched once per epoch; litdata,
    MosaicML's streaming and WebDataset do the same. All ranks go through the same shards, so each
    machine fetches all of them.

    Images that are in no shard are spread over the whole epoch.

    Args:
        window: Number of shards from which images are taken at a time.
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
        alone = int((shards < 0).sum())  # 0, or 1: images in no shard have number 0
        count = len(shards) - alone
        # An epoch lasts from 0 to `length`. The images of a shard are at times around the shard's
        # own, within half a window: so no more shards than that overlap at any time.
        length = max(count, 1)
        middle = np.concatenate([np.full(alone, length / 2), random.permutation(count) + 0.5])
        half = np.concatenate([np.full(alone, length / 2), np.full(count, self.window / 2)])
        begin = np.maximum(middle - half, 0)[number]
        end = np.minimum(middle + half, length)[number]
        moments = begin + random.random(len(population)) * (end - begin)
        order: Positions = np.argsort(moments, kind="stable")
        return order
