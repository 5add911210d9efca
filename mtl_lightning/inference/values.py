"""The values that an exported network is given, by name."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtl_lightning.inference.description import Description
from mtl_lightning.models.inputs import HAS_IMAGE, IMAGE

IMAGES = "images"
"""The name of images, ``(B, 3, H, W)`` uint8, RGB."""

WITH_IMAGE = "has_image"
"""The name of the mask of rows that have an image, ``(B,)`` bool."""

PREFIX = "inputs/"
"""What precedes the name of a column, ``(B,)``; so no name is that of a value inside a graph."""

Values = dict[str, NDArray[Any]]
"""Name to ``(B, ...)``."""


def arguments_of(values: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return values as the arguments of `Predictor`, in its order."""
    tensors = {name: torch.from_numpy(own) for name, own in values.items()}
    arguments: dict[str, Any] = {n: tensors[n] for n in (IMAGES, WITH_IMAGE) if n in tensors}
    columns = {n.removeprefix(PREFIX): v for n, v in tensors.items() if n.startswith(PREFIX)}
    return arguments | ({"columns": columns} if columns else {})


def examples(description: Description, rows: int, draw: np.random.Generator) -> Values:
    """Return random values of every input of a network, in the order of `arguments_of`.

    Args:
        description: The facts about the network.
        rows: The number of rows.
        draw: The random numbers.
    """
    values: Values = {}
    if IMAGE in description.reads:
        size = (rows, 3, *description.image_size)
        values[IMAGES] = draw.integers(0, 256, size, dtype=np.uint8)
    if HAS_IMAGE in description.reads:
        values[WITH_IMAGE] = np.arange(rows) % 2 == 0
    for name, column in description.built_inputs().items():
        values[f"{PREFIX}{name}"] = column.example(rows, draw)
    return values
