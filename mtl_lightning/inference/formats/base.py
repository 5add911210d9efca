"""The base class of export formats, and how to add one.

Adding one: one file here with one class that derives from `ExportFormat`, one line in
``__init__.py``, one in `mtl_lightning.inference.names.FORMATS`, and one test file.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.inference.description import Description
from mtl_lightning.inference.values import Values
from mtl_lightning.tasks.predictor import Predictor

Run = Callable[[Values], dict[str, NDArray[np.generic]]]
"""Maps values by name, see `mtl_lightning.inference.values`, to the answers of `Predictor`."""


class ExportFormat(ABC):
    """A way to write a network, so that it maps images and columns to answers elsewhere."""

    @abstractmethod
    def write(self, predictor: Predictor, description: Description, folder: Path) -> dict[str, str]:
        """Write the network into an empty folder.

        Args:
            predictor: The network, in evaluation mode, on the CPU.
            description: What ``config.json`` says about it.
            folder: Where its files go.

        Returns:
            Facts about the files for ``config.json``.
        """

    @abstractmethod
    def open(self, description: Description, folder: Path) -> Run:
        """Return what `write` has written as a function.

        Raises:
            UserError: If it cannot be read.
        """
