"""Images and target files that cannot be used, or hold no label: known once they are read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist

from mtl_lightning.data.batch import Batch
from mtl_lightning.data.plan import StepPlan
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Encoded

PositionFn = Callable[[], tuple[int, int]]
"""Returns the epoch, and the number of its finished micro-batches."""

SKIP_IMAGES = "data.on_bad_image: skip continues without such images"
SKIP_TARGETS = "data.on_bad_image: skip continues without such targets"

Reasons = dict[tuple[int, str], str]
"""Row and task (``""`` for the image) to the reason why it could not be used."""


@dataclass(frozen=True)
class BadImage:
    """An image, or the target file of an image, that was skipped.

    Attributes:
        image: The path, or the source's own key.
        where: Its place in a table: ``type.csv row 17``.
        split: ``train``, ``val``, ``test`` or ``predict``.
        reason: The reason why it could not be used.
    """

    image: str
    where: str
    split: str
    reason: str


class Files(Protocol):
    """Files by row number: images, or targets."""

    def name(self, row: int) -> str:
        """Return the path."""

    def location(self, row: int) -> str:
        """Return the place of the row for a message."""


class BadImages:
    """The distinct images and target files that this command skipped, the same on every rank.

    Args:
        max_share: The largest share of the images of a split that may be skipped.
    """

    def __init__(self, max_share: float) -> None:
        self.max_share = max_share
        self.found: dict[str, dict[tuple[int, str], BadImage]] = {}
        self._listener: Callable[[], None] | None = None

    def __iter__(self) -> Iterator[BadImage]:
        """Yield them in the order of splits and of discovery."""
        for found in self.found.values():
            yield from found.values()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call a function after some were added."""
        self._listener = listener

    def unsubscribe(self) -> None:
        """Stop calling it."""
        self._listener = None

    def add(
        self, split: str, reasons: Mapping[int, str], files: Files, total: int, task: str = ""
    ) -> None:
        """Add what all ranks found in one step.

        Args:
            split: The split of these rows.
            reasons: Row to the reason why its image, or target, could not be used.
            files: All images, or all targets, by row.
            total: The number of images of the split.
            task: The task whose targets they are; ``""`` for images.

        Raises:
            UserError: If more than the allowed share of images cannot be used.
        """
        found = self.found.setdefault(split, {})
        for row, message in sorted(reasons.items()):  # in an order that ranks agree on
            name, location = files.name(row), files.location(row)
            reason = message.removeprefix(f"{location}: ")
            reason = reason.removeprefix(f"{'target' if task else 'image'} {name} ")
            found.setdefault((row, task), BadImage(name, location, split, reason))
        if self._listener is not None:
            self._listener()
        count = len({row for row, _ in found})
        if count > self.max_share * total:
            raise UserError(
                f"{count:,} of {total:,} {split} images could not be used, and "
                f"data.max_bad_share allows a share of {self.max_share:g}; one of them: "
                f"{reasons[max(reasons)]}"
            )


def raise_on_bad_image(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield batches, raising a ``UserError`` at the first bad image or target."""
    for batch in batches:
        for (_, task), message in _reasons(batch).items():
            raise UserError(f"{message}; {SKIP_TARGETS if task else SKIP_IMAGES}")
        yield batch


def _reasons(batch: Batch) -> Reasons:
    reasons = {(row, ""): reason for row, reason in batch.bad.items()}
    for task, bad in batch.bad_targets.items():
        reasons |= {(row, task): reason for row, reason in bad.items()}
    return reasons


@dataclass
class Recount:
    """Yields batches with the label counts of their optimizer step, without what has no label.

    The step plan counts labels before an image is opened. Which images and targets cannot be used,
    and which targets hold no label, is only known when all micro-batches of the step are loaded,
    on every rank. So these are loaded ahead, and the ranks add up their losses once per step.

    Attributes:
        bad: The list to which they are added.
        split: The split that is loaded.
        images: All images, by row.
        encoded: Task to the labels of all rows.
        plan: The step plan.
        position: The position of training. The loader starts with the optimizer step of this
            position; micro-batches done before a training was resumed are only counted.
        device: The device on which ranks can add up numbers.
        target_files: Task to its target files.
    """

    bad: BadImages
    split: str
    images: Files
    encoded: Mapping[str, Encoded]
    plan: StepPlan
    position: PositionFn
    device: torch.device
    target_files: Mapping[str, Files] = field(default_factory=dict)

    def __call__(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches; all batches of a step are loaded before its first."""
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
        """Return the losses of a step over all ranks: labels (or terms) by task, and images.

        Args:
            step: This rank's micro-batches of it.
        """
        reasons: Reasons = {}
        for batch in step:
            reasons |= _reasons(batch)
        rows = np.concatenate([batch.rows.numpy() for batch in step])

        def among(bad: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
            return rows[np.isin(rows, bad)]  # a sampling may take an image twice in a step

        images = among([row for row, task in reasons if not task])
        own = [
            int(
                (labels.terms(images) if task in self.plan.terms else labels.labelled[images]).sum()
            )
            + len(among([row for row, of in reasons if of == task]))
            + sum(len(batch.void_targets.get(task, ())) for batch in step)
            for task, labels in self.encoded.items()
        ]
        numbers = torch.tensor([*own, len(images), len(reasons)])
        if self.plan.world_size > 1:
            numbers = numbers.to(self.device)
            dist.all_reduce(numbers)
        *lost, total, found = numbers.tolist()
        if found:
            reasons = self._of_all_ranks(reasons)
            for task, files in {"": self.images, **self.target_files}.items():
                bad = {row: reason for (row, of), reason in reasons.items() if of == task}
                if bad:
                    self.bad.add(self.split, bad, files, len(self.plan.rows), task)
        return dict(zip(self.encoded, lost, strict=True)), total

    def _of_all_ranks(self, reasons: Reasons) -> Reasons:
        if self.plan.world_size == 1:
            return reasons
        ranks: list[Reasons] = [{}] * self.plan.world_size
        dist.all_gather_object(ranks, reasons)
        return {key: reason for rank in ranks for key, reason in rank.items()}
