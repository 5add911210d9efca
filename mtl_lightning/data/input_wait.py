"""The time that a training waits for its data, which no loss shows."""

import time
from collections.abc import Callable, Iterator

from mtl_lightning.data.batch import Batch

STARTING = 4
"""Number of batches at the start of an epoch in which workers start and nothing is ready yet."""
ENOUGH = 20
"""Number of batches of an epoch after which the share is representative."""
STARVED = 0.25
"""Share of the training time above which a note is shown."""

PassedOn = Callable[[Iterator[Batch]], Iterator[Batch]]


class InputWaitTimer:
    """Measures the time in ``next()`` of one process's train loader, and the total time.

    Steps do not run ahead of the device: each step synchronises with it, when losses and gradients
    are checked. So the device is nearly idle while the loop waits for a batch.

    Args:
        clock: Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._begin()

    def _begin(self) -> None:
        self.batches = 0
        self._waited = self._trained = 0.0
        self._starting = (0.0, 0.0)  # the part of both in the first batches
        self._since: float | None = None  # when the loop got its current batch

    def wrap(self, passed_on: PassedOn) -> PassedOn:
        """Return the iterator with the clock around it; an epoch starts with its first batch."""

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
        """Stop the clock until the next batch is requested, for example during a validation."""
        if self._since is not None:
            self._trained += self.clock() - self._since
            self._since = None

    def share(self) -> float | None:
        """Return the share of the epoch's training time, up to the pause, spent waiting.

        ``None`` if this process has trained on none of its batches.
        """
        return self._waited / (self._waited + self._trained) if self.batches else None

    def starved(self) -> float | None:
        """Return the share after the first batches if it deserves a note, else ``None``."""
        if self.batches < ENOUGH:
            return None
        waited, trained = self._waited - self._starting[0], self._trained - self._starting[1]
        share = waited / (waited + trained)
        return share if share > STARVED else None
