"""torch.export: a graph that torch runs without this package."""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._pytree import tree_map

from mtl_lightning.inference.description import Description
from mtl_lightning.inference.formats.base import ExportFormat, Run
from mtl_lightning.inference.values import IMAGES, Values, arguments_of, examples
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.predictor import Predictor

FILE = "model.pt2"


def exported(predictor: Predictor, values: Values) -> torch.export.ExportedProgram:
    """Return the graph of a network, with a free batch size.

    Args:
        predictor: The network.
        values: An example of what it is given, of 2 rows or more.

    Raises:
        UserError: If a class in it cannot be exported.
    """
    arguments, batch = arguments_of(values), torch.export.Dim("batch")
    shapes = tree_map(lambda _: {0: batch}, arguments)
    images = (arguments.pop(IMAGES),) if IMAGES in arguments else ()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch about its own internals
            return torch.export.export(predictor, images, arguments, dynamic_shapes=shapes)
    except Exception as error:  # torch raises many kinds
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the network cannot be exported as a graph: {reason}") from error


class PT2(ExportFormat):
    """``model.pt2``, opened by ``torch.export.load(file).module()``, also in C++ by AOTInductor.

    It is called as `Predictor` is: ``module(images)``, ``module(columns={"age": ages})``.
    """

    def write(self, predictor: Predictor, description: Description, folder: Path) -> dict[str, str]:
        """Write the file; see the base class."""
        program = exported(predictor, examples(description, 2, np.random.default_rng(0)))
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

        def run(values: Values) -> dict[str, NDArray[np.generic]]:
            arguments = arguments_of(values)
            images = (arguments.pop(IMAGES),) if IMAGES in arguments else ()
            with torch.no_grad():
                answers = module(*images, **arguments)
            return {name: answer.numpy() for name, answer in answers.items()}

        return run
