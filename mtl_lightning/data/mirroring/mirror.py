"""Mirroring of training images and their labels: left becomes right."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.data import transforms
from mtl_lightning.data.batch import PADDING
from mtl_lightning.system.errors import UserError, did_you_mean, listed
from mtl_lightning.tasks import Encoded, Task

_DRAW = 1
"""Separates these random numbers from those of the augmentation with the same counters."""


@dataclass(frozen=True)
class Mirror:
    """Mirrors training images at random, and swaps labels that name a side.

    Whether an image is mirrored depends only on (seed, epoch, image). It comes before all other
    augmentation.

    Args:
        swap: Task to pairs of its classes (or labels, if it is multi-label) that swap in a mirrored
            image; ``left: right`` also means ``right: left``.
        probability: The probability that an image is mirrored.
    """

    swap: dict[str, dict[str, str]] = field(default_factory=dict)
    probability: float = 0.5

    def check(self, augmentation: transforms.Augmentation) -> None:
        """Check the arguments that need no labels.

        (Not in the constructor, whose errors jsonargparse would hide.)

        Args:
            augmentation: The augmentation of the images.

        Raises:
            UserError: If the probability is out of range, or images would be mirrored twice.
        """
        if not 0 <= self.probability <= 1:
            raise UserError(
                f"data.mirror.probability should be in 0..1. Found {self.probability:g}"
            )
        if augmentation != "default" and transforms.flips(augmentation):
            raise UserError(
                "data.mirror and a RandomHorizontalFlip in data.augmentation are both there, and "
                "the flip would leave the labels behind; leave it out, data.mirror does it"
            )

    def mirror_labels(
        self,
        tasks: Mapping[str, Task],
        encoded: Mapping[str, Encoded],
        left_out: Collection[str] = (),
    ) -> dict[str, Encoded]:
        """Return the labels of all images after mirroring, for the tasks in `swap`.

        Args:
            tasks: The tasks, whose classes are known.
            encoded: Task to the labels of all images.
            left_out: Tasks that may be named although this run leaves them out.

        Raises:
            UserError: If there is no such task, class or label, or a task has none.
        """
        found = {}
        for name, pairs in self.swap.items():
            where = f"data.mirror.swap.{name}"
            if name not in tasks:
                if name in left_out:
                    continue
                hint = did_you_mean(name, tasks)
                raise UserError(f"{where}: no such task{hint}; known: {listed(tasks)}")
            try:
                found[name] = tasks[name].mirrored(encoded[name], pairs)
            except UserError as error:
                raise UserError(f"{where}: {error}") from None
            if not np.array_equal(found[name].counts(), encoded[name].counts()):
                # Steps are planned before it is known which images are mirrored.
                kind = type(tasks[name]).__name__
                raise UserError(f"{where}: {kind}.mirrored changes how many labels an image has")
        return found

    def training_labels(self, encoded: Encoded, mirrored: Encoded) -> list[Encoded]:
        """Return plain and mirrored labels of a task in the proportion of their use in training.

        The proportion is exact to a tenth, so that class weights balance what training sees.
        """
        share = Fraction(self.probability).limit_denominator(10)
        plain = share.denominator - share.numerator
        return [mirrored] * share.numerator + [encoded] * plain


@dataclass(frozen=True)
class Mirroring:
    """Which images are mirrored in an epoch, and their labels: `Mirror` in one run's data sets.

    Attributes:
        probability: The probability that an image is mirrored.
        seed: The seed of the run.
        labels: Task to the labels of all mirrored images; other tasks keep their labels.
    """

    probability: float
    seed: int
    labels: Mapping[str, Encoded]

    def mirrored(self, epoch: int, rows: Sequence[int]) -> NDArray[np.bool_]:
        """Return the mask of the rows mirrored in an epoch, ``(B,)``; padding never is."""
        return np.array([self._is_mirrored(epoch, row) for row in rows], dtype=bool)

    def _is_mirrored(self, epoch: int, row: int) -> bool:
        if row == PADDING or not self.probability:
            return False
        counters = np.random.SeedSequence((self.seed, epoch, row), spawn_key=(_DRAW,))
        bits = int(counters.generate_state(1, np.uint64)[0]) >> 11
        return bits / (1 << 53) < self.probability

    def labels_of(
        self, task: str, encoded: Encoded, rows: NDArray[np.int64], mirrored: NDArray[np.bool_]
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Return the targets and masks of rows, some of which are mirrored.

        Args:
            task: The task.
            encoded: Its labels of all rows.
            rows: ``(B,)``.
            mirrored: ``(B,)``, the mask of the mirrored ones.
        """
        targets, labelled = encoded.targets[rows], encoded.labelled[rows]
        if task in self.labels:
            other, which = self.labels[task], rows[mirrored]
            targets[mirrored], labelled[mirrored] = other.targets[which], other.labelled[which]
        return targets, labelled


NO_MIRRORING = Mirroring(0.0, 0, {})
"""No image is mirrored."""
