from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import mtl_lightning
from mtl_lightning.__main__ import main
from mtl_lightning.inference.exporting import export
from mtl_lightning.inference.model import Model
from mtl_lightning.inference.predictions import table
from tests.helpers.files import exported_tables, exports


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return exports.made(tmp_path_factory.mktemp("trained"), calibration=exports.CALIBRATION)


@pytest.fixture(scope="module")
def model(checkpoint):
    return export(checkpoint, checkpoint.parent / "model", "safetensors").folder


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch, own_process):
    """The current folder, with five photographs."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    Path("photos").mkdir()
    paths = [f"photos/{number}.png" for number in range(5)]
    for path in paths:
        Image.fromarray(draw.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return paths


def refused(capsys, *arguments):
    assert main(["predict", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error.removeprefix("error: ")


@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_the_answers_are_those_of_the_checkpoint(checkpoint, model, photos, capsys, kind):
    if kind == "onnx":
        model = export(checkpoint, Path("graph"), kind).folder
    options = ["--model", str(model), "--images", "photos", "--batch_size", "2"]
    assert main(["predict", *options, "--output", "out/answers.parquet"]) == 0
    assert capsys.readouterr().out == "written: out/answers.parquet (5 images)\n"
    found = pd.read_parquet("out/answers.parquet")
    assert found.pop("image").tolist() == photos
    expected = mtl_lightning.load(checkpoint).predict_frame(photos)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-5)


def test_rows_of_a_table_have_the_answers_of_their_columns(tmp_path):
    path = exported_tables.made(tmp_path)
    folder = export(path, tmp_path / "model", "safetensors").folder
    rows = ["age in years,cat,visit,income", "3,red,,1e9", ",blue,2024-03-01,"]
    Path("t.csv").write_text("\n".join(rows))
    assert main(["predict", "--model", str(folder), "--images", "t.csv"]) == 0
    found = pd.read_csv("predictions.csv")
    assert found.pop("row").tolist() == [2, 3]
    frame = pd.read_csv("t.csv", dtype=object)
    expected = mtl_lightning.load(path).predict_frame(frame)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-5)


def test_a_run_does_not_go_on_with_other_cells(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(table, "ROWS", 1)
    folder = export(exported_tables.made(tmp_path), tmp_path / "model", "safetensors").folder
    rows = ["age in years,cat,visit,income", "3,red,,1e9", ",blue,2024-03-01,"]
    Path("t.csv").write_text("\n".join(rows))
    options = ["predict", "--model", str(folder), "--images", "t.csv", "--batch_size", "1"]
    run = Model.run
    monkeypatch.setattr(Model, "run", lambda self, values: run(self, stopping(values)))
    assert main(options) == 130
    assert "kept: the answers for 1 of 2 rows" in capsys.readouterr().out
    monkeypatch.setattr(Model, "run", run)
    Path("t.csv").write_text("\n".join(rows).replace("3,red", "4,red"))
    assert "are of other cells; leave --resume out" in refused(capsys, *options[1:], "--resume")
    Path("t.csv").write_text("\n".join(rows))
    assert main([*options, "--resume"]) == 0


def stopping(values):
    """Return the first batch; be interrupted at the second, whose age is missing."""
    if np.isnan(values["inputs/age in years"]).any():
        raise KeyboardInterrupt
    return values


def test_a_run_that_ended_goes_on(model, photos, capsys, monkeypatch):
    monkeypatch.setattr(table, "ROWS", 1)
    whole = Path(photos[3]).read_bytes()
    Path(photos[3]).write_bytes(b"")
    options = ("--model", model, "--images", "photos", "--batch_size", 1)
    assert "photos/3.png cannot be read (an empty file)" in refused(capsys, *options)
    assert not Path("predictions.csv").exists()
    Path(photos[3]).write_bytes(whole)
    assert main(["predict", *map(str, options), "--resume"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("resumed: 3 of 5 images were predicted before\n")
    first = Path("predictions.csv").read_text()
    assert main(["predict", *map(str, options)]) == 0
    assert Path("predictions.csv").read_text() == first


def test_a_run_of_another_network_does_not_go_on(checkpoint, model, photos, capsys, monkeypatch):
    monkeypatch.setattr(table, "ROWS", 1)
    Path(photos[3]).write_bytes(b"")
    options = ("--images", "photos", "--batch_size", 1)
    refused(capsys, "--model", model, *options)
    other = export(checkpoint, Path("other"), "safetensors", tasks=["size"]).folder
    message = refused(capsys, "--model", other, *options, "--resume")
    assert "are of other model; leave --resume out" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model model", "predict needs --images: a folder, a table"),
        ("--model nowhere --images photos", "--model should be a folder of `mtl-lightning export`"),
        ("--model photos --images photos", "photos should be a folder of `mtl-lightning export`"),
        ("--model=model --images none", "--images none: no such file or folder"),
        ("--model model --images photos --output a.txt", "--output should be a name that ends in"),
        ("--model model --images photos --batch_size 0", "--batch_size should be a whole number"),
        ("--model model --images photos --image", "--image: predict with --model has no such op"),
        ("--model model --images t.csv", 't.csv row 2, column "image": "../x.png" is outside of'),
    ],
)
def test_what_cannot_be_is_one_line(model, capsys, arguments, message):
    Path("t.csv").write_text("image\n../x.png\n")
    given = arguments.replace("model model", f"model {model}").replace("=model", f"={model}")
    assert refused(capsys, *given.split()).startswith(message)
    assert not Path("predictions.csv").exists()


def test_help(capsys):
    assert main(["predict", "--model", "x", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: mtl-lightning predict --model FOLDER")
