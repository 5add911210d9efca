import numpy as np
import pytest
import torch

import mtl_lightning
from mtl_lightning.inference import exporting
from mtl_lightning.inference.exporting import export
from mtl_lightning.inference.formats import SafeTensors
from mtl_lightning.system.errors import UserError
from tests.helpers.files import exports


def test_real_images_are_compared_too(checkpoint, tmp_path):
    images = np.zeros((4, 50, 60, 3), dtype=np.uint8)
    result = export(checkpoint, tmp_path / "a", "safetensors", images=images)
    assert (result.folder, result.difference, result.compared) == (
        tmp_path / "a",
        0.0,
        1 + 3 + 3 + 4,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_an_empty_folder_is_filled_and_another_is_left_alone(checkpoint, tmp_path):
    (tmp_path / "a").mkdir()
    export(checkpoint, tmp_path / "a", "safetensors")
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    with pytest.raises(UserError, match="Found a folder that is not empty"):
        export(checkpoint, tmp_path / "a", "safetensors")
    assert {path: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    (tmp_path / "b").touch()
    with pytest.raises(UserError, match="Found a file"):
        export(checkpoint, tmp_path / "b", "safetensors")


@pytest.mark.parametrize("off", [2e-4, float("nan")])
def test_what_differs_leaves_nothing_behind(checkpoint, tmp_path, monkeypatch, off):
    opened = SafeTensors.open

    def wrong(self, description, folder):
        run = opened(self, description, folder)
        return lambda images: {
            name: answer + off if name == "kind/probabilities" else answer
            for name, answer in run(images).items()
        }

    monkeypatch.setattr(SafeTensors, "open", wrong)
    with pytest.raises(UserError, match=r"differs from PyTorch by .* nothing is written"):
        export(checkpoint, tmp_path / "a", "safetensors")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing_behind(checkpoint, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "_largest_difference", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, tmp_path / "a", "safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "torch"])
def test_some_tasks_alone(checkpoint, folders, tmp_path, kind):
    export(checkpoint, tmp_path / "a", kind, ["tags"])
    one, whole = mtl_lightning.load(tmp_path / "a"), mtl_lightning.load(folders[kind])
    image = np.random.default_rng(1).integers(0, 256, (1, 32, 40, 3), dtype=np.uint8)
    (answer,), (expected,) = one.predict(image), whole.predict(image)
    assert list(answer) == ["tags", "tags:hat", "tags:bag"]
    assert answer["tags:hat"] == pytest.approx(expected["tags:hat"], abs=1e-6)
    with pytest.raises(UserError, match=r"--tasks tag: no such task.*tags"):
        export(checkpoint, tmp_path / "b", kind, ["tag"])


MORE = {
    "price": {
        "class_path": "mtl_lightning.Regression",
        "init_args": {"loss": "beta_nll", "scale": "log", "bounds": [0.5, 200.0]},
    },
    "type": {
        "class_path": "mtl_lightning.HierarchicalClassification",
        "init_args": {"levels": {"size": {"large": ["cat", "dog"], "small": ["bee"]}}},
    },
    "box": {"class_path": "mtl_lightning.MultiRegression", "init_args": {"numbers": ["x", "y"]}},
}


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "torch"])
def test_intervals_bounds_and_levels_are_in_the_graph(tmp_path, kind):
    """`export` has compared them with PyTorch before it returns."""
    export(exports.made(tmp_path, MORE), tmp_path / "a", kind)
    image = np.random.default_rng(1).integers(0, 256, (1, 32, 40, 3), dtype=np.uint8)
    (answer,) = mtl_lightning.load(tmp_path / "a").predict(image)
    answers = ["price", "price:low", "price:high", "type", "type:size", "type:cat", "type:dog"]
    assert list(answer) == [*answers, "type:bee", "box:x", "box:y"]
    assert 0.5 <= answer["price:low"] < answer["price"] < answer["price:high"] <= 200


def test_a_checkpoint_of_another_network(tmp_path):
    path = exports.made(tmp_path)
    content = torch.load(path, weights_only=True)
    del content["state_dict"]["tasks.task_size.mean"]
    torch.save(content, path)
    with pytest.raises(UserError, match=r"does not fit its network \(.*mean"):
        export(path, tmp_path / "a", "safetensors")


def test_a_class_that_nobody_trusts_is_not_built(tmp_path):
    path = exports.made(
        tmp_path, **{"model.backbone": {"class_path": "tests.helpers.models.Small"}}
    )
    with pytest.raises(UserError, match=r"tests.helpers.models"):
        export(path, tmp_path / "a", "safetensors")


def test_sources_that_differ_in_what_is_white(tmp_path):
    sources = {
        name: {"class_path": "mtl_lightning.TableSource", "init_args": {"path": "t.csv", **own}}
        for name, own in (("a", {}), ("b", {"intensity": {"min": 0, "max": 4095}}))
    }
    path = exports.made(tmp_path, **{"data.sources": sources})
    with pytest.raises(UserError, match="differ in `intensity`"):
        export(path, tmp_path / "a", "safetensors")
