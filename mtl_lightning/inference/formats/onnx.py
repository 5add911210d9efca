"""ONNX: one file that onnxruntime, OpenVINO, TensorRT and others run."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtl_lightning.config import untrusted
from mtl_lightning.inference.description import Description
from mtl_lightning.inference.formats.base import ExportFormat, Run
from mtl_lightning.inference.formats.pt2 import exported
from mtl_lightning.inference.values import Values, arguments_of, examples
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.predictor import Predictor

FILE = "model.onnx"
OPSET = 20


class ONNX(ExportFormat):
    """``model.onnx``: uint8 images and columns in, one named output for each answer of each task.

    Preprocessing and answers are in the graph, and the batch size is free. The metadata hold
    ``config.json``'s tasks, inputs and calibrations, so that the file alone tells what it answers.
    """

    def write(self, predictor: Predictor, description: Description, folder: Path) -> dict[str, str]:
        """Write the file; see the base class."""
        values = examples(description, 2, np.random.default_rng(0))
        program = exported(predictor, values)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the exporter about its own graph passes
            onnx_program: Any = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(values),
                output_names=list(predictor(**arguments_of(values))),
                verbose=False,
            )
        columns = description.built_inputs()
        inputs = {
            name: {**entry, "unit": columns[name].unit()}
            for name, entry in description.inputs.items()
        }
        metadata = onnx_program.model.metadata_props
        for name, facts in (("tasks", dict(description.tasks)), ("inputs", inputs)):
            metadata[name] = json.dumps(untrusted.unmark(facts), ensure_ascii=False)
        metadata["calibration"] = json.dumps(description.calibration)
        metadata["resize"] = description.resize
        onnx_program.save(folder / FILE, external_data=False)
        return {"model": FILE, "opset": str(OPSET)}

    def open(self, description: Description, folder: Path) -> Run:  # noqa: ARG002 - in the file
        """Open it with onnxruntime on the CPU."""
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                f"{folder}: onnxruntime is not installed: pip install 'mtl-lightning[export]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                str(folder / FILE), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has an exception class for each of its codes
            raise UserError(f"{folder / FILE}: cannot be read; {error}") from error
        names = [output.name for output in session.get_outputs()]

        def run(values: Values) -> dict[str, NDArray[np.generic]]:
            return dict(zip(names, session.run(names, values), strict=True))

        return run
