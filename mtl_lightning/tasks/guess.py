"""A network's own answers for cells without a label, from which it can learn."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Guess:
    """Answers to one task for the images of a batch, as targets.

    Attributes:
        targets: ``(B, ...)``, targets that ``Task.loss`` can read.
        confidence: 0..1, floating, the shape of the losses.
        classes: int64, the shape of the losses: the number of the class that is guessed (see
            ``Task.class_numbers``); None for a task without classes, where ``confidence`` is the
            weight of the guess and not compared with a threshold.
    """

    targets: Tensor
    confidence: Tensor
    classes: Tensor | None
