"""A trained network as an object that answers for images of any kind, and for rows of tables."""

import os
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
from mtl_lightning.inference.names import FORMATS, check_format
from mtl_lightning.inference.rows import Given, InputReader
from mtl_lightning.inference.values import Values
from mtl_lightning.models.inputs import IMAGE
from mtl_lightning.system.errors import UserError, listed


class Model:
    """Answers the questions of all tasks about images, or rows of a table; see `load`.

    Args:
        description: The facts about the network.
        run: Maps values of its inputs to answers.

    Attributes:
        tasks: The tasks by name.
        reader: Turns images or rows into batches of values.
    """

    def __init__(self, description: Description, run: Run) -> None:
        self.description = description
        self.tasks = description.built_tasks()
        self._run = run
        self.reader = InputReader(description)

    def __repr__(self) -> str:
        height, width = self.description.image_size
        facts = [self.description.format or "checkpoint"]
        facts += [f"{height} x {width} px"] if IMAGE in self.description.reads else []
        facts += [f"inputs: {listed(self.description.inputs)}"] if self.description.inputs else []
        return f"Model({', '.join(facts)}, tasks: {', '.join(self.tasks)})"

    def predict(self, given: Given, batch_size: int = 32) -> list[dict[str, Any]]:
        """Return the answers for images or rows, in their order.

        Args:
            given: Images: one, or several; several of one size may also be an array
                ``(n, h, w, 3)`` or a tensor ``(n, 3, h, w)``. For a network that reads columns,
                rows: a dict (or Series) from the names of all inputs to cells as in a table, or
                several, or a DataFrame. None is a missing cell. With images, ``image`` is that of
                the row, of any of these kinds; it may be None or left out.
            batch_size: The number of rows that the network gets at once.

        Returns:
            One dict for each row: ``<task>`` to the answer, and ``<task>:<class>`` to its
            probability, like the columns of ``predictions.csv``; for a task of whole maps
            ``<task>:<answer>`` to an array, see its ``predict``.

        Raises:
            UserError: If an image or a cell cannot be read, or a row lacks a column; it is named.
        """
        frame = self.predict_frame(given, batch_size)
        rows = zip(*(frame[name].tolist() for name in frame), strict=True)
        return [dict(zip(map(str, frame), row, strict=True)) for row in rows]

    def predict_frame(self, given: Given, batch_size: int = 32) -> pd.DataFrame:
        """Return the answers of `predict` as a table with a row for each image or row."""
        if batch_size < 1:
            raise UserError(f"batch_size should be 1 or more. Found {batch_size}")
        parts: list[pd.DataFrame] = [
            self._answers(batch) for batch in self.reader.batches(given, batch_size)
        ]
        if not parts:
            parts = [pd.DataFrame()]
        whole: pd.DataFrame = pd.concat(parts, ignore_index=True)
        return whole

    def _answers(self, values: Values) -> pd.DataFrame:
        columns: dict[str, NDArray[Any] | list[NDArray[Any]]] = {}
        for name, own in self.run(values).items():
            task = self.tasks[name]
            if task.loads_targets:  # a whole map for each image
                columns |= {f"{name}:{key}": list(maps) for key, maps in own.items()}
                continue
            for key, column in task.columns(own).items():
                columns[f"{name}:{key}" if key else name] = column
        frame: pd.DataFrame = pd.DataFrame(columns)
        return frame

    def run(self, values: Values) -> dict[str, dict[str, NDArray[np.generic]]]:
        """Return, for each task, the answers of its `predict` for a batch of `InputReader`."""
        found = self._run(values)
        return {
            name: {
                key.removeprefix(f"{name}/"): answer
                for key, answer in found.items()
                if key.startswith(f"{name}/")
            }
            for name in self.tasks
        }


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
    return Model(description.completed(predictor), run_of(predictor))
