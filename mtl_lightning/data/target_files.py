"""Targets that are files, such as segmentation masks: read with their images."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from mtl_lightning.data.images import file_content, pixel_limit, reason_of
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Task


class TargetFiles:
    """The target files of one task, by row of the merged table.

    Args:
        name: The name of the task.
        task: The task, which decodes them.
        table: The merged table, with their resolved paths in the task's column.
        size: The (height, width) of a batch's images.
        max_pixels: Pillow refuses larger files.

    Attributes:
        empty: The target of a row without one, ``(..., height, width)``.
    """

    def __init__(
        self, name: str, task: Task, table: MergedTable, size: tuple[int, int], max_pixels: int
    ) -> None:
        self.task_name = name
        self.task = task
        self.table = table
        self.max_pixels = max_pixels
        self.empty = task.empty_target(size)

    def name(self, row: int) -> str:
        """Return the path of a row's target."""
        return str(self.table.cells[self.task_name][row])

    def location(self, row: int) -> str:
        """Return the place of the target in a table, for a message: ``masks.csv row 17``."""
        return self.table.location(row, self.task_name)

    def load(self, row: int, shape: Sequence[int]) -> Tensor:
        """Return the target of a row, resampled to the nearest pixels of its image.

        Args:
            row: A row that is labelled for the task.
            shape: The (h, w) of the image, which may have been scaled but not cropped.

        Returns:
            ``(..., h, w)``.

        Raises:
            UserError: If the file cannot be read, or is not a target of this image.
        """
        try:
            with pixel_limit(self.max_pixels):
                target = self.task.load_target(file_content(self.name(row)))
            self._check(target, shape)
        except Exception as error:  # readers raise errors of any type for a broken file
            raise UserError(
                f"{self.location(row)}: target {self.name(row)} cannot be used for task "
                f"{self.task_name} ({reason_of(error)})"
            ) from error
        resized: Tensor = v2.functional.resize(tv_tensors.Mask(target), list(shape))
        return resized.as_subclass(Tensor)

    def _check(self, target: object, shape: Sequence[int]) -> None:
        expected = f"{self.empty.dtype} {_described(self.empty)}"
        if not torch.is_tensor(target):
            raise TypeError(f"it is read as {type(target).__name__}, expected {expected}")
        if (target.dtype, target.shape[:-2]) != (self.empty.dtype, self.empty.shape[:-2]):
            found = f"{target.dtype} {tuple(target.shape)}"
            raise ValueError(f"it is read as {found}, expected {expected}")
        height, width = target.shape[-2:]
        if height * width > self.max_pixels:
            raise ValueError(
                f"{height * width:,} pixels, and data.max_pixels allows {self.max_pixels:,}"
            )
        # An image may be loaded at a half or a quarter, with its sides rounded.
        scale = max(shape[0] / height, shape[1] / width)
        tolerance = 1 + max(shape) / min(shape)
        if max(abs(height * scale - shape[0]), abs(width * scale - shape[1])) > tolerance:
            raise ValueError(
                f"its {height} x {width} pixels are of another shape than the image's, "
                f"{shape[0]} x {shape[1]} once scaled; is it the target of another image?"
            )


def _described(target: Tensor) -> str:
    return f"({', '.join([*map(str, target.shape[:-2]), 'height', 'width'])})"
