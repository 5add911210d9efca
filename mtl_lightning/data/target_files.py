"""Targets that are files, such as segmentation masks: read with their images."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torchvision.transforms import v2

from mtl_lightning.data.images import pixel_limit, reason_of
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.system.errors import UserError, short
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
        """Return the path of a row's target, or the beginning and end of a mask in a cell."""
        cell = str(self.table.cells[self.task_name][row])
        return cell if os.path.isabs(cell) else short(cell)

    def location(self, row: int) -> str:
        """Return the place of the target in a table, for a message: ``masks.csv row 17``."""
        return self.table.location(row, self.task_name)

    def read(self, row: int) -> Tensor:
        """Return the target of a row, as it is in its file.

        Raises:
            UserError: If the file cannot be read, or is not a target.
        """
        with self._naming(row):
            return self._read(row)

    def load(self, row: int, shape: Sequence[int]) -> Tensor | None:
        """Return the target of a row, resampled to the nearest pixels of its image.

        Args:
            row: A row that is labelled for the task.
            shape: The (h, w) of the image, which may have been scaled but not cropped.

        Returns:
            ``(..., h, w)``, a `Task.target_type`; None if it holds no label (`Task.has_label`).

        Raises:
            UserError: If the file cannot be read, or is not a target of this image.
        """
        with self._naming(row):
            target = self._read(row)
            self._check_shape(target, shape)
        resized: Tensor = v2.functional.resize(self.task.target_type(target), list(shape))
        return resized if self.task.has_label(resized.as_subclass(Tensor)) else None

    def _read(self, row: int) -> Tensor:
        with pixel_limit(self.max_pixels):
            target: Tensor = self.task.load_target(self.table.target_content(row, self.task_name))
        self._check(target)
        return target

    @contextmanager
    def _naming(self, row: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # readers raise errors of any type for a broken file
            raise UserError(
                f"{self.location(row)}: target {self.name(row)} cannot be used for task "
                f"{self.task_name} ({reason_of(error)})"
            ) from error

    def _check(self, target: object) -> None:
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

    def _check_shape(self, target: Tensor, shape: Sequence[int]) -> None:
        height, width = target.shape[-2:]
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
