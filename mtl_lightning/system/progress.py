"""Work in threads, with a progress bar if it takes longer than a moment in a terminal."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from rich import progress
from rich.console import Console

S = TypeVar("S")
T = TypeVar("T")
PATIENCE = 2.0
"""Seconds after which the bar appears."""
AHEAD = 8
"""Number of calls per thread that wait for a free thread."""


class ProgressBar:
    """Runs a function over a list; shows a bar if it takes more than `PATIENCE` seconds.

    Args:
        console: Where the bar is shown; nothing is shown unless it is a terminal.
        patience: Seconds before the bar is shown.
    """

    def __init__(self, console: Console, patience: float = PATIENCE) -> None:
        self.console = console
        self.patience = patience

    def map(
        self, function: Callable[[S], T], items: Sequence[S], description: str, threads: int
    ) -> list[T]:
        """Return the function's result for each item, in order.

        Args:
            function: Called in threads.
            items: Its arguments.
            description: The work in a few words.
            threads: Number of threads.
        """
        return list(self.imap(function, items, description, threads))

    def imap(
        self, function: Callable[[S], T], items: Sequence[S], description: str, threads: int
    ) -> Iterator[T]:
        """Yield the results of `map`, computed a few ahead of the consumer."""
        return self.track(_spread(function, items, threads), len(items), description)

    def track(self, results: Iterable[T], total: int, description: str) -> Iterator[T]:
        """Yield ``total`` results, and show how many were consumed."""
        start, bar = time.monotonic(), None
        try:
            for number, result in enumerate(results, 1):
                yield result
                late = time.monotonic() - start > self.patience
                if bar is None and late and number < total and self.console.is_terminal:
                    bar = self._bar()
                    task = bar.add_task(description, total=total)
                    bar.start()
                if bar is not None:
                    bar.update(task, completed=number)
        finally:
            if bar is not None:
                bar.stop()

    def _bar(self) -> progress.Progress:
        return progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )


def _spread(function: Callable[[S], T], items: Iterable[S], threads: int) -> Iterator[T]:
    """Yield the results in order, with a bounded number of calls waiting."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads * AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for call in waiting:  # after an error or a signal, nobody needs their results
                call.cancel()
