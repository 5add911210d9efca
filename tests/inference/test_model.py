"""The same answers from a checkpoint and from every format, for images of every kind."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import mtl_lightning
from mtl_lightning.data.images import decode
from mtl_lightning.inference.description import Description
from mtl_lightning.inference.exporting import export, load_predictor
from mtl_lightning.inference.names import FORMATS
from mtl_lightning.system.errors import UserError
from tests.helpers.files import exports

COLUMNS = [
    "kind",
    "kind:cat",
    "kind:dog",
    "kind:eel",
    "kind:set_90",
    "tags",
    "tags:hat",
    "tags:bag",
]
COLUMNS += ["size", "size:low", "size:high", "grade", "grade:S", "grade:M", "grade:L"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    paths = []
    for number, size in enumerate([(32, 40), (90, 50), (200, 300), (40, 32), (33, 33)]):
        paths.append(folder / f"{number}.png")
        pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def model(checkpoint):
    return mtl_lightning.load(checkpoint)


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "torch"])
def test_every_format_gives_the_answers_of_the_checkpoint(model, folders, photos, kind):
    other = mtl_lightning.load(folders[kind])
    one, two = (each.predict_frame(photos, batch_size=2) for each in (model, other))
    assert list(one) == list(two) == COLUMNS
    for name in COLUMNS:
        if not pd.api.types.is_numeric_dtype(one[name]):
            assert (one[name] == two[name]).all()
        else:
            np.testing.assert_allclose(one[name], two[name], rtol=0, atol=1e-5 * one[name].max())


def test_answers_are_those_of_the_network(model, photos):
    (answer,) = model.predict(photos[0])
    assert list(answer) == COLUMNS
    assert answer["kind"] == max(("cat", "dog", "eel"), key=lambda name: answer[f"kind:{name}"])
    assert sum(answer[f"kind:{name}"] for name in ("cat", "dog", "eel")) == pytest.approx(1)
    assert abs(answer["size"] - exports.MEAN) < 100
    assert type(answer["size"]) is float


def test_images_of_every_kind_are_the_same_image(model, photos):
    path = photos[2]
    pixels = decode(str(path))
    expected = model.predict(path)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (
        str(path),
        path.read_bytes(),
        Image.open(path),
        pixels,
        pixels[None],
        tensor,
        tensor[None],
        iter([path]),
        [tensor.to(memory_format=torch.contiguous_format)],
    ):
        assert model.predict(image) == expected


def test_whole_maps_are_arrays(tmp_path):
    dense = {
        "parts": {
            "class_path": "mtl_lightning.Segmentation",
            "init_args": {"classes": ["a", "b", "c"]},
        },
        "kind": exports.TASKS["kind"],
    }
    export(exports.made(tmp_path, dense), tmp_path / "out", "onnx")
    answers = mtl_lightning.load(tmp_path / "out").predict(np.zeros((3, 50, 50, 3), np.uint8))
    assert len(answers) == 3
    assert answers[2]["parts:classes"].shape == exports.SIZE
    assert answers[2]["parts:probabilities"].shape == (3, *exports.SIZE)
    assert answers[2]["kind"] in ("cat", "dog", "eel")


def test_grey_arrays_and_no_image_at_all(model):
    grey = np.full((50, 60), 99, dtype=np.uint8)
    assert model.predict(grey) == model.predict(np.repeat(grey[..., None], 3, axis=2))
    assert model.predict([]) == []


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_batch_size_changes_nothing(model, photos, batch_size):
    frame, expected = model.predict_frame(photos, batch_size), model.predict_frame(photos, 3)
    assert list(frame["kind"]) == list(expected["kind"])
    np.testing.assert_allclose(frame["kind:cat"], expected["kind:cat"], atol=1e-6)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3)), r"image 0 should be uint8, .* Found float64 \(4, 4, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"Found uint8 \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"Found uint8 \(0, 4, 3\)"),
        (b"no image", "image 0 .*not an image"),
        ("nowhere.png", "nowhere.png"),
    ],
    ids=["floats", "four channels", "empty", "bytes", "no file"],
)
def test_what_is_no_image_is_named(model, image, message):
    with pytest.raises(UserError, match=message):
        model.predict(image)


def test_a_batch_size_below_1(model, photos):
    with pytest.raises(UserError, match=r"batch_size should be 1 or more. Found 0"):
        model.predict(photos, batch_size=0)


def test_it_says_what_it_is(model, folders):
    assert repr(model) == "Model(checkpoint, 32 x 40 px, tasks: kind, tags, size, grade)"
    exported = mtl_lightning.load(folders["safetensors"])
    assert repr(exported).startswith("Model(safetensors, 32 x 40 px")


def test_what_is_not_there_or_no_export(tmp_path):
    with pytest.raises(UserError, match="no such file; give a checkpoint, or a folder"):
        mtl_lightning.load(tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"should be a folder of .*Found no config.json"):
        mtl_lightning.load(tmp_path)


def test_an_export_is_loaded_without_lightning(folders):
    code = (
        "import sys, mtl_lightning\n"
        f"mtl_lightning.load({str(folders['safetensors'])!r})\n"
        "assert 'pytorch_lightning' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_answers_are_calibrated_in_each_format(checkpoint, folders):
    images = [np.full((32, 40, 3), shade, np.uint8) for shade in (30, 200)]
    plain = replace(Description.of_checkpoint(checkpoint), calibration={})
    raw = load_predictor(checkpoint, plain)
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    with torch.no_grad():
        logarithms = raw(batch)["kind/probabilities"].log() / 2
    expected = logarithms.softmax(1).numpy()
    for path in (checkpoint, *(folders[kind] for kind in FORMATS)):
        found = mtl_lightning.load(path).predict_frame(images)
        columns = found[["kind:cat", "kind:dog", "kind:eel"]].to_numpy()
        np.testing.assert_allclose(columns, expected, rtol=1e-4, err_msg=str(path))
        names = ["|".join(np.array(["cat", "dog", "eel"])[row >= 0.335]) for row in expected]
        assert found["kind:set_90"].tolist() == names
        hats = (found["tags:hat"] >= 0.2).tolist()
        assert ["hat" in tags for tags in found["tags"]] == hats
        assert not any("bag" in tags for tags in found["tags"][found["tags:bag"] < 0.9])
        reach = found["size"] - found["size:low"]
        np.testing.assert_allclose(reach, 1.5 * 12.5, rtol=1e-4, err_msg=str(path))
