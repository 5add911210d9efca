"""Inputs of a network by name: an image, columns of a table, or both."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mtl_lightning.system.errors import UserError

IMAGE = "image"
"""The name of the image: ``(B, 3, H, W)`` RGB, uint8 (or floating on the same scale, 0..255)."""

HAS_IMAGE = "has_image"
"""Which rows have an image: ``(B,)`` bool. The image of another row is black."""

NUMBERS = "numbers"
"""The numbers of a table: ``(B, columns)`` float32, standardised; NaN where there is none."""

CATEGORIES = "categories"
"""The categories of a table: ``(B, columns)`` int64, each with codes of its own: 0 where there is
none, 1 for one that no training row has, then the known ones."""

Inputs = Mapping[str, Tensor]
"""Name to ``(B, ...)``."""


@dataclass(frozen=True)
class InputSpec:
    """Shape and dtype of an input, without the batch dimension.

    Attributes:
        shape: Of one row.
        dtype: Of the values.
        sizes: For codes, the number of codes of each column.
        edges: For numbers, the ends of intervals of each column, rising; empty for a column without
            any, and empty if none has any.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.uint8
    sizes: tuple[int, ...] = ()
    edges: tuple[tuple[float, ...], ...] = ()

    def example(self, rows: int) -> Tensor:
        """Return ``(rows, *shape)`` random values: any pixels or codes, else from [0, 1)."""
        shape = (rows, *self.shape)
        if self.dtype == torch.uint8:
            return torch.randint(0, 256, shape, dtype=self.dtype)
        if self.dtype == torch.bool:
            return torch.ones(shape, dtype=self.dtype)
        if self.sizes:
            columns = [torch.randint(0, size, (rows,), dtype=self.dtype) for size in self.sizes]
            return torch.stack(columns, dim=1)
        return torch.rand(shape, dtype=self.dtype)


InputSpecs = Mapping[str, InputSpec]


def image_input(size: tuple[int, int]) -> dict[str, InputSpec]:
    """Return the specification of images of (height, width) pixels as the only input."""
    return {IMAGE: InputSpec((3, *size))}


def is_table(names: Collection[str]) -> bool:
    """Whether columns are among these inputs."""
    return NUMBERS in names or CATEGORIES in names


def row_inputs(size: tuple[int, int], columns: InputSpecs) -> dict[str, InputSpec]:
    """Return the specification of all inputs that a row may have.

    Args:
        size: The (height, width) of the images.
        columns: That of the columns of a table, perhaps none.
    """
    return {**image_input(size), HAS_IMAGE: InputSpec((), torch.bool), **columns}


def examples(specs: InputSpecs, rows: int, device: torch.device) -> dict[str, Tensor]:
    """Return random inputs, ``(rows, *shape)`` each, drawn from the CPU's generator."""
    return {name: spec.example(rows).to(device) for name, spec in specs.items()}


def take_rows(inputs: Inputs, rows: Tensor) -> dict[str, Tensor]:
    """Return the given rows (int64 or a mask) of every input."""
    return {name: values[rows] for name, values in inputs.items()}


def num_rows(inputs: Inputs) -> int:
    """Return the batch size B."""
    return len(next(iter(inputs.values())))


def image_size(specs: InputSpecs) -> tuple[int, int]:
    """Return the (height, width) of the images, in pixels."""
    height, width = specs[IMAGE].shape[-2:]
    return height, width


def check_images(images: Tensor) -> None:
    """Refuse images on another scale than 0..255, or of another layout, as far as can be seen.

    What an exported network is given later is not checked: only shape and dtype are then known.

    Args:
        images: ``(B, 3, H, W)`` RGB, uint8, or floating in 0..255.

    Raises:
        UserError: If they are not. Floats that are none above 1 are taken for images in 0..1, as
            torchvision's ToTensor makes them.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise UserError(
            f"images should be of the shape (B, 3, height, width). Found {tuple(images.shape)}"
        )
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise UserError(
            f"images should be uint8. Found {images.dtype}; convert them: images.byte()"
        )
    if torch.compiler.is_compiling() or not images.numel():
        return
    low, high = (float(value) for value in images.detach().aminmax())
    if not 0 <= low <= high <= 255 or 0 < high <= 1:
        raise UserError(
            f"images should be uint8, or floats in 0..255. Found floats in {low:g}..{high:g}; "
            f"give the pixels as they are in the file, the network scales them itself"
        )
