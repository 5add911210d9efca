import pytest
import torch

from mtl_lightning.inference.description import Description
from mtl_lightning.inference.formats import PT2
from mtl_lightning.system.errors import UserError
from tests.helpers.files.exports import SIZE


def test_torch_alone_runs_it(folders):
    module = torch.export.load(folders["torch"] / "model.pt2").module()
    answers = module(torch.zeros(5, 3, *SIZE, dtype=torch.uint8))
    assert answers["kind/probabilities"].shape == (5, 3)
    assert answers["size/value"].dtype == torch.float64


def test_a_damaged_file(folders, tmp_path):
    (tmp_path / "model.pt2").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"model.pt2: cannot be read"):
        PT2().open(Description.read(folders["torch"]), tmp_path)


def test_a_network_that_is_no_graph_is_one_line(folders, monkeypatch):
    description = Description.read(folders["torch"])
    predictor = description.build()

    def forward(images):
        return {"a": images if images.sum() > 0 else -images}

    monkeypatch.setattr(predictor, "forward", forward)
    with pytest.raises(UserError, match="the network cannot be exported as a graph: "):
        PT2().write(predictor, description, folders["torch"])
