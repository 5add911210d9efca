"""torch.export: a graph that torch runs without this package."""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mtl_lightning.inference.description import Description
from mtl_lightning.inference.formats.base import ExportFormat, Run
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.predictor import Predictor

FILE = "model.pt2"


def exported(predictor: Predictor, description: Description) -> torch.export.ExportedProgram:
    """Return the graph of a network, with a free batch size.

    Raises:
        UserError: If a class in it cannot be exported.
    """
    images = torch.zeros(2, 3, *description.image_size, dtype=torch.uint8)
    batch = torch.export.Dim("batch")
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch about its own internals
            return torch.export.export(predictor, (images,), dynamic_shapes={"images": {0: batch}})
    except Exception as error:  # torch raises many kinds
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the network cannot be exported as a graph: {reason}") from error


class PT2(ExportFormat):
    """``model.pt2``, opened by ``torch.export.load(file).module()``, also in C++ by AOTInductor."""

    def write(self, predictor: Predictor, description: Description, folder: Path) -> dict[str, str]:
        """Write the file; see the base class."""
        program = exported(predictor, description)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about weights on a GPU, which these are not
            torch.export.save(program, folder / FILE)
        return {"model": FILE}

    def open(self, description: Description, folder: Path) -> Run:  # noqa: ARG002 - in the file
        """Open it with torch."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch about its own internals
                module = torch.export.load(folder / FILE).module()
        except Exception as error:  # torch raises many kinds
            raise UserError(f"{folder / FILE}: cannot be read; {error}") from error

        def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
            with torch.no_grad():
                answers = module(torch.from_numpy(images))
            return {name: answer.numpy() for name, answer in answers.items()}

        return run
