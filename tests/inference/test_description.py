import json
import shutil
from dataclasses import replace

import pytest

from mtl_lightning.inference.description import Description
from mtl_lightning.system.errors import UserError
from tests.helpers.files import exported_tables, exports


def test_what_is_written_is_read(checkpoint, tmp_path):
    description = Description.of_checkpoint(checkpoint)
    description.write(tmp_path)
    assert Description.read(tmp_path) == description
    assert description.image_size == exports.SIZE
    assert description.origin["step"] == 120
    assert description.calibration["kind"]["temperature"] == 2.0
    assert list(description.only(["grade"]).calibration) == ["grade"]


def test_no_path_of_the_machine_is_in_it(tmp_path):
    backbone = exports.model()["backbone"]
    arguments = {**backbone["init_args"], "weights": "/home/me/secret.pth"}
    path = exports.made(tmp_path, **{"model.backbone": {**backbone, "init_args": arguments}})
    Description.of_checkpoint(path).write(tmp_path)
    assert "/home/me" not in (tmp_path / "config.json").read_text()


def test_statistics_of_the_labels_keep_every_digit(checkpoint, folders):
    task = Description.read(folders["safetensors"]).built_tasks()["size"]
    assert task.mean.item() == exports.MEAN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "was not written by"),
        ({"version": 1}, "version should be 2. Found 1; export it again"),
        ({"resize": "crop"}, 'resize should be .*Found "crop"'),
        ({"more": 1}, "is incomplete"),
        ({"calibration": {"kind": 3}}, "a calibration should have"),
        ({"tasks": {"a": {"class_path": "os.system"}}}, "class_path"),
        ({"tasks": {"a": {"class_path": "subprocess.Popen"}}}, "class_path"),
    ],
    ids=str,
)
def test_a_file_of_a_stranger(folders, tmp_path, change, message):
    folder = shutil.copytree(folders["safetensors"], tmp_path / "a")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | change))
    with pytest.raises(UserError, match=message):
        Description.read(folder).build()


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_file_that_is_cut_short(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json: (cannot be read|was not written)"):
        Description.read(tmp_path)


def test_columns_are_written_with_their_statistics(tmp_path):
    description = Description.of_checkpoint(exported_tables.made(tmp_path))
    description.completed(description.build()).write(tmp_path)
    read = Description.read(tmp_path)
    assert read.reads == ("numbers", "categories")
    assert read.built_inputs()["age in years"].identity() == {
        "robust": True,
        "centre": 41.0,
        "scale": 12.5,
        "bins": 3,
        "edges": [-2.0, 0.0, 0.5, 2.0],
    }
    with pytest.raises(UserError, match=r"Number should know its statistics before"):
        replace(read, inputs={"age": {"class_path": "mtl_lightning.Number"}}).build()
