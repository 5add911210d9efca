"""The step plan: which rows each rank sees when, and how many labels a whole step has.

A pure function of (seed, epoch, ranks, accumulation, label matrix), computed in the same way on
every rank. A batch therefore knows the label counts of its *whole* optimizer step before it is
loaded, and "sum over labelled rows / labelled rows in the step" needs no communication and no
knowledge of later micro-batches.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.data.batch import PADDING


@dataclass(frozen=True)
class Request:
    """The rows of one rank in one micro-batch; see :class:`~mtl_lightning.data.batch.Batch`."""

    rows: NDArray[np.int64]
    counts: dict[str, int]
    step_rows: int
    gradient_divisor: int
    epoch: int


@dataclass(frozen=True)
class StepPlan:
    """The rows of one split, distributed to ranks and micro-batches.

    A micro-batch of all ranks takes the next ``batch_size * world_size`` rows; ``accumulate`` of
    them are one optimizer step. The last micro-batch is distributed evenly, and a rank without a
    row gets one of padding, so that all ranks do the same number of steps.

    Attributes:
        rows: ``(n,)`` int64, the split's rows in the merged table.
        labels: Task to ``(n,)`` int, the number of the task's labels of each of these rows.
        terms: Task to ``(n,)`` int, the number of terms that each of them has in its loss, for
            tasks that assume something about cells without a label; see `Encoded.terms`.
        batch_size: Rows of one rank in one micro-batch.
        world_size: Number of ranks.
        accumulate: Micro-batches of one optimizer step.
        limit: Stop after so many micro-batches (``trainer.limit_train_batches``).
        shuffle_seed: The seed by which each epoch is shuffled differently; ``None`` keeps the
            order.
        draw: Chooses what an epoch takes, from the rows of a step and random numbers; see
            `Sampling.draw`.
        resumed: ``(epoch, rows)``: an earlier process, of any batch size and number of ranks, has
            processed the first rows of this epoch.
    """

    rows: NDArray[np.int64]
    labels: Mapping[str, NDArray[np.int64]]
    batch_size: int
    world_size: int = 1
    accumulate: int = 1
    limit: int | None = None
    shuffle_seed: int | None = None
    draw: Callable[[int, np.random.Generator], NDArray[np.int64]] | None = None
    resumed: tuple[int, int] = (0, 0)
    terms: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of micro-batches, the same on every rank."""
        whole = -(-len(self.rows) // self._width)
        return whole if self.limit is None else min(whole, self.limit)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the positions in ``rows`` in the order in which the epoch takes them."""
        if self.shuffle_seed is None:
            return np.arange(len(self.rows))
        random = np.random.default_rng([self.shuffle_seed, epoch])
        if self.draw is None:
            return random.permutation(len(self.rows))
        return self.draw(self.step_width, random)

    def start(self, epoch: int) -> int:
        """Return the number of the micro-batch with which this process starts the epoch.

        It is 0 unless rows of the epoch were processed before. The remaining rows are then the last
        micro-batches of the epoch, whatever the size of the earlier ones was.
        """
        if epoch != self.resumed[0]:
            return 0
        remaining = max(self._used - self.resumed[1], 0)
        return len(self) - -(-remaining // self._width)

    def rows_before(self, epoch: int, number: int) -> int:
        """Return the number of rows of the epoch before micro-batch ``number``."""
        rows = number * self._width
        if epoch == self.resumed[0]:
            rows += self.resumed[1] - self.start(epoch) * self._width
        return min(rows, self._used)

    def fewest_rows(self, epoch: int) -> int:
        """Return the number of rows of the smallest micro-batch of any rank; padding is one.

        It is the last of an epoch, the others are full. 0: nothing remains of this epoch.
        """
        last = len(self) - 1
        if last < self.start(epoch):
            return 0
        rows = self.rows_before(epoch, last + 1) - self.rows_before(epoch, last)
        return max(rows // self.world_size, 1)

    def single_labels(self, epoch: int) -> list[str]:
        """Return the tasks of which a micro-batch of some rank has exactly one labelled row."""
        start, used = self.rows_before(epoch, self.start(epoch)), self._used
        taken = np.arange(start, used)
        micro = (taken - start) // self._width
        batches = micro * self.world_size + (taken - start) % self._width % self.world_size
        rows = self.order(epoch)[start:used]
        return [
            task
            for task, labels in self.labels.items()
            if (np.bincount(batches, weights=labels[rows] > 0) == 1).any()
        ]

    def step_start(self, epoch: int, number: int) -> int:
        """Return the number of the first micro-batch of the step of micro-batch ``number``."""
        return max(number // self.accumulate * self.accumulate, self.start(epoch))

    def requests(self, epoch: int, rank: int, start: int = 0) -> Iterator[Request]:
        """Yield the requests of ``rank`` from micro-batch ``start`` on."""
        order = self.order(epoch)[: self._used]
        gradient_divisor = self.world_size * self.accumulate
        terms = {**self.labels, **self.terms}
        for number in range(max(start, self.start(epoch)), len(self)):
            step = self.step_start(epoch, number)
            end = number // self.accumulate * self.accumulate + self.accumulate
            in_step = order[self.rows_before(epoch, step) : self.rows_before(epoch, end)]
            both = self.rows_before(epoch, number), self.rows_before(epoch, number + 1)
            mine = order[slice(*both)][rank :: self.world_size]
            yield Request(
                rows=self.rows[mine] if len(mine) else np.array([PADDING], dtype=np.int64),
                counts={task: int(own[in_step].sum()) for task, own in terms.items()},
                step_rows=len(in_step),
                gradient_divisor=gradient_divisor,
                epoch=epoch,
            )

    @property
    def step_width(self) -> int:
        """The number of rows of a whole optimizer step, over all ranks."""
        return self._width * self.accumulate

    @property
    def _width(self) -> int:
        return self.batch_size * self.world_size

    @property
    def _used(self) -> int:
        """The number of rows of an epoch that fit into its micro-batches."""
        return min(len(self) * self._width, len(self.rows))
