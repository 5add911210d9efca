"""How long a training waits for its data: a device that starves is seen in no loss."""

import time
from collections.abc import Callable, Iterator

from mtl_lightning.data.batch import Batch

STARTING = 4
"""Batches of an epoch in which the processes that load images begin, and nothing is ready yet."""
ENOUGH = 20
"""Batches of an epoch that say how it goes on."""
STARVED = 0.25
"""More of the training time than this is worth a word."""

PassedOn = Callable[[Iterator[Batch]], Iterator[Batch]]


class InputWaitTimer:
    """A clock beside the train loader of one process: the time in ``next()``, and all time.

    Steps do not run ahead of the device: it is waited for in each of them, where losses and
    gradients are looked at. So it has next to nothing to do while the loop waits for a batch.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._begin()

    def _begin(self) -> None:
        self.batches = 0
        self._waited = self._trained = 0.0
        self._starting = (0.0, 0.0)  # what of both belongs to the first batches
        self._since: float | None = None  # when the loop got the batch that it trains on

    def wrap(self, passed_on: PassedOn) -> PassedOn:
        """Return the same with the clock around it; an epoch begins with its first batch."""

        def timed(batches: Iterator[Batch]) -> Iterator[Batch]:
            self._begin()
            batches = passed_on(batches)
            while True:
                self.pause()
                asked = self.clock()
                if self.batches == STARTING:
                    self._starting = self._waited, self._trained
                batch = next(batches, None)
                if batch is None:
                    return
                self._since = self.clock()
                self._waited += self._since - asked
                self.batches += 1
                yield batch

        return timed

    def pause(self) -> None:
        """Stop the clock until the next batch is asked for: this is no training (a validation)."""
        if self._since is not None:
            self._trained += self.clock() - self._since
            self._since = None

    def share(self) -> float | None:
        """Return the share of the epoch's training time, up to the pause, that was waiting.

        ``None``: this process has trained on none of its batches.
        """
        return self._waited / (self._waited + self._trained) if self.batches else None

    def starved(self) -> float | None:
        """Return the share after the first batches where it is worth a word, else ``None``."""
        if self.batches < ENOUGH:
            return None
        waited, trained = self._waited - self._starting[0], self._trained - self._starting[1]
        share = waited / (waited + trained)
        return share if share > STARVED else None
