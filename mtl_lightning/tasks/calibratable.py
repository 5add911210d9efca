"""The part of a task that is asked for calibrated answers; `calibration` fits their values."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl_lightning.tasks.calibration import Calibration


@dataclass(frozen=True)
class Judged:
    """Answers of rows (or cells) with a label, and whether they were right.

    Attributes:
        confidence: ``(n,)``, the probability of the answer.
        before: ``(n,)``, the same without calibration.
        right: ``(n,)`` bool.
        covered: ``(n,)`` bool, whether the set of classes holds the label; None without sets.
        size: ``(n,)`` int64, the number of classes in the set.
    """

    confidence: Tensor
    before: Tensor
    right: Tensor
    covered: Tensor | None = None
    size: Tensor | None = None


class Calibratable(ABC):
    """The part of a task that `mtl_lightning.callbacks.calibrate` asks."""

    calibrates: ClassVar[bool] = False
    """Whether `calibrate` can be called."""

    calibration: Calibration | None = None
    """What answers are calibrated by; None in training, and where nothing was fitted."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Compute the answers, see `Task.predict`."""

    def calibrate(
        self, outputs: Tensor, targets: Tensor, labelled: Tensor, coverage: float
    ) -> Calibration:
        """Fit a calibration, without using it.

        Args:
            outputs: ``(n, num_outputs)`` floating, of at least one labelled row.
            targets: ``(n, ...)``, undefined where a label is missing.
            labelled: bool, the shape of what `Task.loss` returns.
            coverage: The share of labels that a set of classes or an interval should hold.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be calibrated")

    def measured(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the answers that metrics and plots are given: `predict`'s, and perhaps more.

        By default nothing more; with a calibration perhaps what the answers were without it.
        """
        return self.predict(outputs)

    def judge(
        self, answers: Mapping[str, Tensor], targets: Tensor, labelled: Tensor
    ) -> Judged | None:
        """Compare calibrated answers of `measured` with labels; None if they are not calibrated."""
        del answers, targets, labelled
        return None
