"""A trained network as an object that answers for images of any kind."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtl_lightning.inference import formats
from mtl_lightning.inference.description import Description
from mtl_lightning.inference.exporting import load_predictor
from mtl_lightning.inference.formats import Run
from mtl_lightning.inference.formats.safetensors import run_of
from mtl_lightning.inference.images import AnyImage, ImageReader
from mtl_lightning.inference.names import FORMATS, check_format
from mtl_lightning.system.errors import UserError


class Model:
    """Answers the questions of all tasks about images; see `load`.

    Args:
        description: The facts about the network.
        run: Maps images of the network's size to answers.

    Attributes:
        tasks: The tasks by name.
    """

    def __init__(self, description: Description, run: Run) -> None:
        self.description = description
        self.tasks = description.built_tasks()
        self._run = run
        self._read = ImageReader(description)

    def __repr__(self) -> str:
        height, width = self.description.image_size
        kind = self.description.format or "checkpoint"
        return f"Model({kind}, {height} x {width} px, tasks: {', '.join(self.tasks)})"

    def predict(
        self, images: AnyImage | Iterable[AnyImage], batch_size: int = 32
    ) -> list[dict[str, Any]]:
        """Return the answers for images, in their order.

        Args:
            images: One, or several; several of one size may also be an array ``(n, h, w, 3)`` or a
                tensor ``(n, 3, h, w)``.
            batch_size: The number of images that the network gets at once.

        Returns:
            One dict for each image: ``<task>`` to the answer, and ``<task>:<class>`` to its
            probability, like the columns of ``predictions.csv``; for a task of whole maps
            ``<task>:<answer>`` to an array, see its ``predict``.

        Raises:
            UserError: If an image cannot be read; it is named.
        """
        frame = self.predict_frame(images, batch_size)
        rows = zip(*(frame[name].tolist() for name in frame), strict=True)
        return [dict(zip(map(str, frame), row, strict=True)) for row in rows]

    def predict_frame(
        self, images: AnyImage | Iterable[AnyImage], batch_size: int = 32
    ) -> pd.DataFrame:
        """Return the answers of `predict` as a table with a row for each image."""
        if batch_size < 1:
            raise UserError(f"batch_size should be 1 or more. Found {batch_size}")
        parts: list[pd.DataFrame] = [
            self._answers(batch) for batch in _batches(self._read(images), batch_size)
        ]
        if not parts:
            parts = [pd.DataFrame()]
        whole: pd.DataFrame = pd.concat(parts, ignore_index=True)
        return whole

    def _answers(self, images: NDArray[np.uint8]) -> pd.DataFrame:
        found = self._run(images)
        columns: dict[str, NDArray[Any] | list[NDArray[Any]]] = {}
        for name, task in self.tasks.items():
            own = {
                key.removeprefix(f"{name}/"): values
                for key, values in found.items()
                if key.startswith(f"{name}/")
            }
            if task.loads_targets:  # a whole map for each image
                columns |= {f"{name}:{key}": list(values) for key, values in own.items()}
                continue
            for key, values in task.columns(own).items():
                columns[f"{name}:{key}" if key else name] = values
        frame: pd.DataFrame = pd.DataFrame(columns)
        return frame


def load(path: str | os.PathLike[str]) -> Model:
    """Load a trained network: a checkpoint, or a folder of `mtl-lightning export`.

    Args:
        path: The file or folder.

    Raises:
        UserError: If it is neither, or cannot be read.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        description = Description.read(path)
        check_format(description.format)
        own = getattr(formats, FORMATS[description.format][0])()
        return Model(description, own.open(description, path))
    if not path.exists():
        raise UserError(f"{path}: no such file; give a checkpoint, or a folder of an export")
    description = Description.of_checkpoint(path)
    predictor = load_predictor(path, description)
    return Model(description.with_statistics(predictor), run_of(predictor))


def _batches(images: Iterator[NDArray[np.uint8]], batch_size: int) -> Iterator[NDArray[np.uint8]]:
    while batch := list(islice(images, batch_size)):
        yield np.stack(batch)
