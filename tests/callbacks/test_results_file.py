import json

import pytest

from mtl_lightning.callbacks.results_file import ResultsFile
from mtl_lightning.data.datamodule import PartialLabels
from tests.helpers.data import Memory, make_tasks
from tests.helpers.training import make_module, make_trainer


@pytest.fixture
def data():
    """One test image with a size (R2 undefined), none with ``rare``."""
    labels = {
        "kind": ["cat", "dog", "eel", "cat", "dog", "eel", "cat", "dog"],
        "size": [*range(6), 7, None],
        "rare": ["no", "yes", *[None] * 6],
    }
    source = Memory(labels, ["train"] * 4 + ["val"] * 2 + ["test"] * 2)
    return PartialLabels(make_tasks(), {"m": source}, image_size=16, batch_size=4, num_workers=0)


def run(folder, data, command):
    trainer = make_trainer(folder, callbacks=[ResultsFile(folder / "run")])
    getattr(trainer, command)(make_module(), datamodule=data, verbose=False)


@pytest.mark.parametrize(("command", "split"), [("test", "test"), ("validate", "val")])
def test_a_command_writes_its_split(tmp_path, data, command, split, capsys):
    run(tmp_path, data, command)
    path = tmp_path / "run" / f"{split}_metrics.json"
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no other file, no part"
    found = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert found["split"] == split
    assert list(found["tasks"]) == ["kind", "size", "rare"]
    assert found["tasks"]["rare"] == {"n_labelled": 0}
    assert found["tasks"]["kind"]["n_labelled"] == 2
    assert path.read_text().endswith("}\n")
    assert f"written: {path}" in capsys.readouterr().out


def test_what_is_undefined_is_null(tmp_path, data):
    run(tmp_path, data, "test")
    size = json.loads((tmp_path / "run" / "test_metrics.json").read_text())["tasks"]["size"]
    assert size["r2"] is None
    assert size["n_labelled"] == 1
    assert size["mae"] > 0


def test_a_validation_within_training_writes_nothing(tmp_path, data):
    trainer = make_trainer(tmp_path, callbacks=[ResultsFile(tmp_path / "run")])
    trainer.fit(make_module(), datamodule=data)
    assert not (tmp_path / "run").exists()


def test_an_earlier_file_is_replaced(tmp_path, data):
    path = tmp_path / "run" / "test_metrics.json"
    path.parent.mkdir()
    path.write_text("x" * 100_000)
    run(tmp_path, data, "test")
    assert json.loads(path.read_text())["split"] == "test"
