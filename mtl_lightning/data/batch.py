"""The batch that is passed from the data to the network."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

IMAGE = "image"
"""The name of the image among the inputs."""
HAS_IMAGE = "has_image"
"""The name of the mask of the rows that have an image."""

PADDING = -1
"""The row number of an image that only pads a batch, so that every rank has one."""


class Batch:
    """One rank's share of one micro-batch, with the label counts of the whole step.

    Attributes:
        inputs: Name to ``(B, ...)``: ``image`` is ``(B, 3, H, W)`` uint8, RGB, black in rows
            without one, whose ``has_image`` is False; ``numbers`` and ``categories`` are columns
            of tables, see `mtl_lightning.models.inputs`. Empty if there are features instead.
        plain_inputs: The same without augmentation, as in evaluation, but mirrored where ``inputs``
            are mirrored with their labels; None unless asked for.
        targets: Task to ``(B, ...)``; undefined where a label is missing.
        labelled: Task to ``(B,)`` bool (in a multi-label task: ``(B, labels)``).
        rows: ``(B,)`` int64, the rows of the merged table; ``PADDING`` is no image.
        counts: Task to the number of labels in the whole optimizer step: all ranks, all
            accumulated micro-batches; in training with the cells that it assumes, see
            `Encoded.terms`.
        step_rows: The number of images in the whole optimizer step.
        gradient_divisor: The number that the trainer divides the gradient of this micro-batch by
            (ranks times accumulated micro-batches); the loss is multiplied by it in return.
        bad: Row to the reason why its image could not be used; the image is black and unlabelled.
        bad_targets: Task to the rows whose target file could not be used, and why; they are
            unlabelled for this task.
        void_targets: Task to the rows whose target holds no label; they are unlabelled for this
            task.
        features: ``(B, F)``, the backbone's features of the images, if they are cached.
        failure: Why a source can load no image at all, if it cannot; the rest is then undefined.
    """

    # Not a dataclass: Lightning converts the tensors in a dataclass to the precision of the
    # network, and `bf16-true` would turn a label of 2003 into 2000. Of this class it only calls
    # `to`.
    def __init__(
        self,
        inputs: dict[str, Tensor],
        targets: dict[str, Tensor],
        labelled: dict[str, Tensor],
        rows: Tensor,
        counts: dict[str, int],
        step_rows: int,
        gradient_divisor: int,
        bad: dict[int, str] | None = None,
        bad_targets: dict[str, dict[int, str]] | None = None,
        void_targets: dict[str, list[int]] | None = None,
        features: Tensor | None = None,
        failure: str = "",
        plain_inputs: dict[str, Tensor] | None = None,
    ) -> None:
        self.inputs = inputs
        self.targets = targets
        self.labelled = labelled
        self.rows = rows
        self.counts = counts
        self.step_rows = step_rows
        self.gradient_divisor = gradient_divisor
        self.bad = bad or {}
        self.bad_targets = bad_targets or {}
        self.void_targets = void_targets or {}
        self.features = features
        self.failure = failure
        self.plain_inputs = plain_inputs

    def __len__(self) -> int:
        """The number of images, including padding."""
        return len(self.rows)

    def replace(self, **changes: Any) -> "Batch":
        """Return a batch with some attributes changed."""
        return Batch(**{**vars(self), **changes})

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        def apply(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: apply(item) for name, item in value.items()}
            return change(value) if torch.is_tensor(value) else value

        return Batch(**{name: apply(value) for name, value in vars(self).items()})

    def to(self, *args: Any, **kwargs: Any) -> "Batch":
        """Move every tensor, like ``Tensor.to``; float64 as float32 to Apple's GPUs."""
        if any(str(value).startswith("mps") for value in (*args, *kwargs.values())):
            targets = {
                name: values.float() if values.dtype == torch.float64 else values
                for name, values in self.targets.items()
            }
            return self.replace(targets=targets)._each(lambda values: values.to(*args, **kwargs))
        return self._each(lambda values: values.to(*args, **kwargs))

    def pin_memory(self) -> "Batch":
        """Pin every tensor that is not on a GPU, so that copies to it are asynchronous."""
        return self._each(lambda values: values.pin_memory() if values.is_cpu else values)
