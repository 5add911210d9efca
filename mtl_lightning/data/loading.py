"""The loader: batches of the step plan, started late, by workers that ignore signals."""

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
    """Return the loader of the batches that a sampler requests.

    Args:
        dataset: Returns a batch for a request.
        sampler: The sampler of one rank.
        num_workers: Number of processes that load images; 0 to load in this one.
        passed_on: See `LateLoader`.
    """
    return LateLoader(
        dataset,
        passed_on=passed_on,
        # The data set gets one request for a whole batch instead of a list of rows.
        batch_sampler=sampler,
        collate_fn=_as_it_is,  # the data set collates already
        num_workers=num_workers,
        worker_init_fn=_ignore_signals,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


class LateLoader(DataLoader[Batch]):
    """A loader that reads its sampler only when the first batch is requested.

    Lightning makes the iterator before it restores a checkpoint's epoch and position; by then,
    workers would be loading the wrong images.

    Args:
        arguments: Arguments of ``DataLoader``.
        passed_on: Applied to the batches in the main process, the only one that knows the ranks.
        options: Options of ``DataLoader``.
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
        """Start when the first batch is requested."""
        yield from self.passed_on(whole(super().__iter__()))


def whole(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Raise a worker's failure here: raised there, the message would be a traceback."""
    for batch in batches:
        if batch.failure:
            raise SourceError(batch.failure)
        yield batch


def _ignore_signals(_: int) -> None:
    """Leave it to the training process when to end: a terminal signals all its processes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _as_it_is(batch: Batch) -> Batch:
    return batch
