from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_lightning import Callback

from mtl_lightning.callbacks.predictions import PredictionsFile
from mtl_lightning.inference.predictions.table import PredictionTable
from mtl_lightning.models import DecoderOptions
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, DenseRegression, Segmentation, Task
from tests.callbacks.test_predictions import Images
from tests.helpers import ranks
from tests.helpers.data import make_data
from tests.helpers.training import make_module, make_trainer

CLASSES = {7: "sky", 2: "road", 9: "car"}


def tasks() -> dict[str, Task]:
    narrow = DecoderOptions(width=4)
    return {
        "kind": Classification(["cat", "dog"]),
        "parts/of": Segmentation(CLASSES, decoder=narrow),
        "depth": DenseRegression("m", scale=0.01, decoder=narrow),
        "heat": DenseRegression(decoder=narrow),
    }


def predict(
    folder: Path, devices: int = 1, bad: tuple[int, ...] = (), count: int = 5, stop: bool = False
) -> Path:
    """Predict images, whose number two ranks cannot divide, and return the table."""
    output = folder / f"out/{devices}.csv"
    data = make_data(batch_size=2, tasks=tasks(), on_bad_image="skip", max_bad_share=0.9)
    images = Images(count, bad)
    data.predict_on(images)
    module = make_module(tasks=data.tasks)
    trainer = make_trainer(
        folder,
        devices=devices,
        callbacks=[
            PredictionsFile(PredictionTable(images.names, output)),
            *([Stop()] if stop else []),
        ],
    )
    trainer.predict(module, datamodule=data, return_predictions=False)
    return output


class Stop(Callback):
    """Ends the prediction after its first batch."""

    def on_predict_batch_end(self, *_: Any, **__: Any) -> None:
        raise UserError("stopped")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_a_file_for_each_image_that_its_row_names(tmp_path):
    table = pd.read_csv(predict(tmp_path))
    module = make_module(tasks=tasks()).eval()
    images = Images(5)
    for row in range(5):
        pixels = torch.from_numpy(images.load(row)).permute(2, 0, 1)[None]
        with torch.no_grad():
            answers = module.predictor()(pixels)
        mask = (tmp_path / "out" / table["parts/of"][row]).read_bytes()
        found = module.tasks["parts/of"].load_target(mask) - 1
        assert torch.equal(found, answers["parts/of/classes"][0])
        depth = (tmp_path / "out" / table["depth"][row]).read_bytes()
        expected = answers["depth/value"][0].clamp(0.01, 655.35)
        torch.testing.assert_close(
            module.tasks["depth"].load_target(depth), expected, atol=0.006, rtol=0
        )
        heat = np.load(tmp_path / "out" / table["heat"][row])
        assert np.allclose(heat, answers["heat/value"][0], rtol=1e-5, atol=1e-6)
    assert set(table) == {"image", "kind", "kind:cat", "kind:dog", "parts/of", "depth", "heat"}
    assert table["heat"][1] == "1_maps/heat/000001_photo 2, a.npy"
    assert table["parts/of"][0] == "1_maps/parts%2Fof/000000_photo 0, a.png"


def test_an_image_that_cannot_be_read_has_no_file(tmp_path):
    table = pd.read_csv(predict(tmp_path, bad=(1,)))
    assert table["parts/of"].isna().tolist() == [False, True, False, False, False]
    assert len(contents(tmp_path / "out/1_maps")) == 3 * 4


def test_an_older_folder_is_replaced_and_only_by_a_complete_one(tmp_path):
    predict(tmp_path)
    first = contents(tmp_path / "out")
    assert len(first) == 1 + 3 * 5
    with pytest.raises(UserError, match="stopped"):
        predict(tmp_path, count=3, stop=True)
    assert contents(tmp_path / "out") == first
    predict(tmp_path, count=3)
    assert len(contents(tmp_path / "out")) == 1 + 3 * 3


def test_two_ranks_write_what_one_writes(tmp_path):
    (both,) = ranks.run([(f"{__name__}.predict", {"folder": tmp_path, "devices": 2})], tmp_path)
    predict(tmp_path)
    one, two = (contents(tmp_path / f"out/{n}_maps") for n in (1, 2))
    assert one.keys() == two.keys()
    assert len(two) == 3 * 5
    assert one["depth/000003_photo 1, a.png"] == two["depth/000003_photo 1, a.png"]
    columns = pd.read_csv(both)["depth"].str.removeprefix("2_maps/")
    assert set(columns) <= two.keys()
