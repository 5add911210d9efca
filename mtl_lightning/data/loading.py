"""The loader: batches of the step plan, begun late, loaded by processes that heed no signal."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from mtl_lightning.data.batch import Batch
from mtl_lightning.data.batch_sampler import PlanSampler
from mtl_lightning.system.errors import SourceError


def loader(
    dataset: Dataset[Batch],
    sampler: PlanSampler,
    num_workers: int,
    passed_on: Callable[[Iterator[Batch]], Iterator[Batch]],
) -> DataLoader[Batch]:
    """Return what loads the batches that a sampler asks for.

    Args:
        dataset: Answers a request with a batch.
        sampler: Of one rank.
        num_workers: Processes that load images; 0: this one does.
        passed_on: See `LateLoader`.
    """
    return LateLoader(
        dataset,
        passed_on=passed_on,
        # The data set is asked for a whole batch by one request instead of a list of rows.
        batch_sampler=sampler,
        collate_fn=_as_it_is,  # the data set collates already
        num_workers=num_workers,
        worker_init_fn=_ignore_signals,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


class LateLoader(DataLoader[Batch]):
    """A loader that asks its sampler only when the first batch is wanted.

    Lightning makes the iterator before it restores a checkpoint's epoch and position; workers
    would by then be loading the wrong images.

    Args:
        arguments: A ``DataLoader``'s.
        passed_on: What batches go through, in the main process; it is the one to know of the ranks.
        options: A ``DataLoader``'s.
    """

    def __init__(
        self,
        *arguments: Any,
        passed_on: Callable[[Iterator[Batch]], Iterator[Batch]],
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.passed_on = passed_on

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # a generator, on purpose
        """Begin when the first batch is asked for."""
        yield from self.passed_on(whole(super().__iter__()))


def whole(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Raise here what a loading process met: raised there, its traceback would be the message."""
    for batch in batches:
        if batch.failure:
            raise SourceError(batch.failure)
        yield batch


def _ignore_signals(_: int) -> None:
    """Let the training process decide when to end: signals come to all processes of a terminal."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _as_it_is(batch: Batch) -> Batch:
    return batch
