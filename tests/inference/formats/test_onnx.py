import json

import numpy as np
import onnxruntime
import pytest

from mtl_lightning.inference.description import Description
from mtl_lightning.inference.formats import ONNX
from mtl_lightning.system.errors import UserError
from tests.helpers.files.exports import SIZE

OUTPUTS = ["kind/probabilities", "kind/set", "tags/probabilities", "tags/applies", "size/value"]
OUTPUTS += ["size/low", "size/high", "grade/probabilities", "grade/rank"]


def test_the_file_alone_takes_images_and_names_its_answers(folders):
    session = onnxruntime.InferenceSession(folders["onnx"] / "model.onnx")
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(uint8)", [3, *SIZE])
    assert isinstance(given.shape[0], str), "of any number of images"
    outputs = {output.name: output.type for output in session.get_outputs()}
    assert list(outputs) == OUTPUTS
    assert outputs["size/value"] == "tensor(double)", "a time stamp has ten digits"
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["tasks"])["kind"]["init_args"]["classes"] == ["cat", "dog", "eel"]
    assert json.loads(metadata["calibration"])["tags"]["thresholds"] == [0.2, 0.9]
    assert metadata["resize"] == "cover"
    images = np.zeros((7, 3, *SIZE), dtype=np.uint8)
    assert [len(answer) for answer in session.run(None, {"images": images})] == [7] * len(OUTPUTS)


def test_a_damaged_file(folders, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"model.onnx: cannot be read"):
        ONNX().open(Description.read(folders["onnx"]), tmp_path)
