"""What becomes of images that cannot be used: an error, or none of them counts, on any rank."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.distributed as dist

from mtl_lightning.data.batch import Batch
from mtl_lightning.data.dataset import Images
from mtl_lightning.data.plan import StepPlan
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Encoded

PositionFn = Callable[[], tuple[int, int]]
"""Gives the epoch, and how many micro-batches of it are done."""


@dataclass(frozen=True)
class BadImage:
    """An image that was skipped.

    Attributes:
        image: Its path, or its source's own key.
        where: The place that names it: ``type.csv row 17``.
        split: ``train``, ``val``, ``test`` or ``predict``.
        reason: Why it could not be used.
    """

    image: str
    where: str
    split: str
    reason: str


class BadImages:
    """The images that this command skipped, each once, the same on every rank.

    Args:
        max_share: Of the images of a split; more than these stop the run.
    """

    def __init__(self, max_share: float) -> None:
        self.max_share = max_share
        self.found: dict[str, dict[int, BadImage]] = {}
        self._listener: Callable[[], None] | None = None

    def __iter__(self) -> Iterator[BadImage]:
        """Yield them in the order of splits and of discovery."""
        for found in self.found.values():
            yield from found.values()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call a function whenever an image was found to be bad."""
        self._listener = listener

    def unsubscribe(self) -> None:
        """Call it no more."""
        self._listener = None

    def add(self, split: str, reasons: Mapping[int, str], images: Images, total: int) -> None:
        """Take in what all ranks found in one step.

        Args:
            split: Of these rows.
            reasons: Row to why its image could not be used.
            images: All images, by row.
            total: The number of images of the split.

        Raises:
            UserError: If more than the share allowed are bad by now.
        """
        found = self.found.setdefault(split, {})
        for row, said in sorted(reasons.items()):  # not as ranks came to know of them
            image, where = images.name(row), images.location(row)
            reason = said.removeprefix(f"{where}: ").removeprefix(f"image {image} ")
            found.setdefault(row, BadImage(image, where, split, reason))
        if self._listener is not None:
            self._listener()
        if len(found) > self.max_share * total:
            raise UserError(
                f"{len(found):,} of {total:,} {split} images could not be used, and "
                f"data.max_bad_share allows a share of {self.max_share:g}; one of them: "
                f"{reasons[max(reasons)]}"
            )


def raise_on_bad_image(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Pass batches on, and raise a ``UserError`` at the first image that cannot be used."""
    for batch in batches:
        for said in batch.bad.values():
            raise UserError(f"{said}; data.on_bad_image: skip goes on without such images")
        yield batch


@dataclass
class SkipBadImages:
    """Passes batches on with the counts that their optimizer step has without the bad images.

    The step plan counts labels before an image is opened. Which of them cannot be used is known
    once all micro-batches of the step are loaded, on every rank: so these are loaded ahead, and the
    ranks add up what they lost, once a step.

    Attributes:
        bad: Where the bad images are kept.
        split: What is loaded.
        images: All images, by row.
        encoded: Task to the labels of all rows.
        plan: What is loaded when.
        position: Where training is. The loader begins with the optimizer step in which that is;
            micro-batches of it that are done, in a training that is resumed, are counted only.
        device: Where the ranks can add up numbers.
    """

    bad: BadImages
    split: str
    images: Images
    encoded: Mapping[str, Encoded]
    plan: StepPlan
    position: PositionFn
    device: torch.device

    def __call__(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, a whole step of them loaded before its first."""
        accumulate, (epoch, start) = self.plan.accumulate, self.position()
        number = self.plan.step_start(epoch, start)
        done = max(start - number, 0)
        while step := list(islice(batches, accumulate - number % accumulate)):
            lost, rows = self._lost(step)
            for batch in step[done:]:
                batch.counts = {task: n - lost[task] for task, n in batch.counts.items()}
                batch.step_rows -= rows
                yield batch
            done, number = 0, number + len(step)

    def _lost(self, step: list[Batch]) -> tuple[dict[str, int], int]:
        """Return the labels that a step loses by bad images, by task, and the number of these.

        Args:
            step: What this rank has of it.
        """
        reasons = {row: why for batch in step for row, why in batch.bad.items()}
        rows = np.concatenate([batch.rows.numpy() for batch in step])
        rows = rows[np.isin(rows, list(reasons))]  # a sampling may take an image twice in a step
        own = [int(labels.labelled[rows].sum()) for labels in self.encoded.values()]
        numbers = torch.tensor([*own, len(rows)], device=self.device)
        if self.plan.world_size > 1:
            dist.all_reduce(numbers)
        *lost, total = numbers.tolist()
        if total:
            reasons = self._of_all_ranks(reasons)
            self.bad.add(self.split, reasons, self.images, len(self.plan.rows))
        return dict(zip(self.encoded, lost, strict=True)), total

    def _of_all_ranks(self, reasons: dict[int, str]) -> dict[int, str]:
        if self.plan.world_size == 1:
            return reasons
        ranks: list[dict[int, str]] = [{}] * self.plan.world_size
        dist.all_gather_object(ranks, reasons)
        return {row: reason for rank in ranks for row, reason in rank.items()}
