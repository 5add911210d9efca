import shutil

import pytest
from safetensors.torch import load_file, save_file

import mtl_lightning
from mtl_lightning.system.errors import UserError


@pytest.fixture
def folder(folders, tmp_path):
    return shutil.copytree(folders["safetensors"], tmp_path / "a")


def test_a_damaged_file(folder):
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"model.safetensors: cannot be read"):
        mtl_lightning.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model.safetensors: cannot be read"):
        mtl_lightning.load(folder)


def test_weights_of_another_network(folder):
    state = load_file(folder / "model.safetensors")
    del state["tasks.task_size.mean"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"does not fit its config.json \(.*mean"):
        mtl_lightning.load(folder)
