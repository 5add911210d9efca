"""The step plan: which rows each rank sees when, and how many labels a whole step has.

One pure function of (seed, epoch, ranks, accumulation, label matrix), computed alike on every
rank. A batch therefore knows the label counts of its *whole* optimizer step before it is loaded,
and "sum over labelled rows / labelled rows in the step" needs no communication and no knowledge
of later micro-batches.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.data.batch import PADDING


@dataclass(frozen=True)
class Request:
    """What one rank loads for one micro-batch; see :class:`~mtl_lightning.data.batch.Batch`."""

    rows: NDArray[np.int64]
    counts: dict[str, int]
    step_rows: int
    parts: int
    epoch: int


@dataclass(frozen=True)
class StepPlan:
    """The rows of one split, dealt out to ranks and micro-batches.

    A micro-batch of all ranks takes the next ``batch_size * world_size`` rows; ``accumulate`` of
    these are one optimizer step. The last micro-batch is dealt out evenly, and a rank that would
    have no row gets one of padding, so that all ranks do the same number of steps.

    Attributes:
        rows: ``(n,)`` int64, the split's rows in the merged table.
        labels: Task to ``(n,)`` int, how many labels of the task each of these rows has.
        batch_size: Rows of one rank in one micro-batch.
        world_size: Number of ranks.
        accumulate: Micro-batches of one optimizer step.
        limit: Stop after so many micro-batches (``trainer.limit_train_batches``).
        shuffle_seed: Shuffle each epoch in another way, with this seed; ``None``: keep the order.
    """

    rows: NDArray[np.int64]
    labels: Mapping[str, NDArray[np.int64]]
    batch_size: int
    world_size: int = 1
    accumulate: int = 1
    limit: int | None = None
    shuffle_seed: int | None = None

    def __len__(self) -> int:
        """The number of micro-batches, the same on every rank."""
        whole = -(-len(self.rows) // (self.batch_size * self.world_size))
        return whole if self.limit is None else min(whole, self.limit)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the positions in ``rows`` in the order in which the epoch takes them."""
        if self.shuffle_seed is None:
            return np.arange(len(self.rows))
        return np.random.default_rng([self.shuffle_seed, epoch]).permutation(len(self.rows))

    def beginning(self, number: int) -> int:
        """Return the number of the first micro-batch of the step of micro-batch ``number``."""
        return number // self.accumulate * self.accumulate

    def requests(self, epoch: int, rank: int, start: int = 0) -> Iterator[Request]:
        """Yield what ``rank`` loads, from its micro-batch number ``start`` on."""
        width = self.batch_size * self.world_size
        order = self.order(epoch)[: len(self) * width]
        parts = self.world_size * self.accumulate
        for number in range(start, len(self)):
            step = self.beginning(number)
            in_step = order[step * width : (step + self.accumulate) * width]
            mine = order[number * width : (number + 1) * width][rank :: self.world_size]
            yield Request(
                rows=self.rows[mine] if len(mine) else np.array([PADDING], dtype=np.int64),
                counts={task: int(labels[in_step].sum()) for task, labels in self.labels.items()},
                step_rows=len(in_step),
                parts=parts,
                epoch=epoch,
            )
