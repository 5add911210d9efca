"""Work in threads, and a bar for what takes longer than a moment, where somebody watches."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

S = TypeVar("S")
T = TypeVar("T")
PATIENCE = 2.0
"""Seconds after which one wants to see that it goes on."""
AHEAD = 8
"""Calls that wait for a free thread, a thread."""


class Progress:
    """Works through a list; shows a bar if it is not through in `PATIENCE` seconds.

    Args:
        console: Where to; nothing is shown if it is no terminal.
        patience: Seconds.
    """

    def __init__(self, console: Console, patience: float = PATIENCE) -> None:
        self.console = console
        self.patience = patience

    def each(
        self, function: Callable[[S], T], items: Sequence[S], what: str, threads: int
    ) -> list[T]:
        """Return what the function gives for each item, in their order.

        Args:
            function: Called in threads.
            items: What to call it with.
            what: What is done, in a few words.
            threads: How many.
        """
        return list(self.stream(function, items, what, threads))

    def stream(
        self, function: Callable[[S], T], items: Sequence[S], what: str, threads: int
    ) -> Iterator[T]:
        """Yield what `each` returns, a few results ahead of who takes them."""
        return self.watch(_spread(function, items, threads), len(items), what)

    def watch(self, results: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Yield the results, of which there are ``total``, as somebody takes them."""
        start, bar = time.monotonic(), None
        try:
            for number, result in enumerate(results, 1):
                yield result
                late = time.monotonic() - start > self.patience
                if bar is None and late and number < total and self.console.is_terminal:
                    bar = self._bar()
                    task = bar.add_task(what, total=total)
                    bar.start()
                if bar is not None:
                    bar.update(task, completed=number)
        finally:
            if bar is not None:
                bar.stop()

    def _bar(self) -> Bar:
        return Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )


def _spread(function: Callable[[S], T], items: Iterable[S], threads: int) -> Iterator[T]:
    """Yield the results in order; of a million calls only a few wait at a time."""
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
            for call in waiting:  # after an error, or a signal: nobody wants their results
                call.cancel()
