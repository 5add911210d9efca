from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from jsonargparse import ArgumentParser

from mtl_lightning.callbacks.saved_config import SavedConfig


@pytest.mark.parametrize(
    ("command", "checkpoint", "name"),
    [
        ("fit", None, "config.yaml"),
        ("fit", "last.ckpt", "config_resumed.yaml"),
        ("test", "best.ckpt", "config_test.yaml"),
        ("predict", "best.ckpt", "config_predict.yaml"),
    ],
)
def test_each_command_has_a_file_of_its_own(command, checkpoint, name):
    parser = ArgumentParser()
    parser.add_argument("--a", type=int)
    parser.add_argument("--ckpt_path", type=str)
    config = parser.parse_object({"ckpt_path": checkpoint})
    saved = SavedConfig(parser, config, Path("runs/x"), command)
    trainer = SimpleNamespace(
        is_global_zero=True, strategy=SimpleNamespace(broadcast=lambda value: value)
    )
    saved.setup(trainer, SimpleNamespace(), command)
    (path,) = Path("runs/x").iterdir()
    assert path.name == name
    assert yaml.safe_load(path.read_text()) == {"a": None, "ckpt_path": checkpoint}


def test_other_ranks_write_nothing():
    parser = ArgumentParser()
    saved = SavedConfig(parser, parser.parse_object({}), Path("runs/x"), "fit")
    trainer = SimpleNamespace(
        is_global_zero=False, strategy=SimpleNamespace(broadcast=lambda value: True)
    )
    saved.setup(trainer, SimpleNamespace(), "fit")
    assert not Path("runs").exists()
