"""Safetensors: weights alone, from which the network is built by its ``config.json``."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mtl_lightning.inference.description import Description
from mtl_lightning.inference.formats.base import ExportFormat, Run
from mtl_lightning.inference.values import Values, arguments_of
from mtl_lightning.system.errors import UserError, state_dict_difference
from mtl_lightning.tasks.predictor import Predictor

FILE = "model.safetensors"


class SafeTensors(ExportFormat):
    """``model.safetensors``, which is opened without unpickling anything."""

    def write(
        self,
        predictor: Predictor,
        description: Description,  # noqa: ARG002 - `export` writes it
        folder: Path,
    ) -> dict[str, str]:
        """Write the file; see the base class."""
        state = {name: value.contiguous().clone() for name, value in predictor.state_dict().items()}
        save_file(state, folder / FILE)
        return {"model": FILE}

    def open(self, description: Description, folder: Path) -> Run:
        """Build the network, and load its weights."""
        path = folder / FILE
        predictor = description.build()
        try:
            predictor.load_state_dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: cannot be read; {error}") from error
        except RuntimeError as error:
            difference = state_dict_difference(error)
            raise UserError(f"{path}: does not fit its config.json ({difference})") from error
        return run_of(predictor)


def run_of(predictor: Predictor) -> Run:
    """Return a network as a function of arrays."""

    def run(values: Values) -> dict[str, NDArray[np.generic]]:
        with torch.no_grad():
            answers = predictor(**arguments_of(values))
        return {name: answer.numpy() for name, answer in answers.items()}

    return run
