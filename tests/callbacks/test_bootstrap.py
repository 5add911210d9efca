import json

import numpy as np
import pytest

from mtl_lightning.callbacks.bootstrap import Bootstrap
from mtl_lightning.data.datamodule import PartialLabels
from tests.helpers import ranks
from tests.helpers.data import Memory, make_tasks
from tests.helpers.training import make_module, make_trainer


def data(batch_size=4):
    labels = {
        "kind": ["cat", "dog", "eel", None] * 15,
        "size": range(60),
        "rare": ["no", "yes", *[None] * 58],
    }
    splits = ["train"] * 20 + ["val"] * 10 + ["test"] * 30
    source = Memory(labels, splits)
    tasks = make_tasks()
    return PartialLabels(tasks, {"m": source}, image_size=16, batch_size=batch_size, num_workers=0)


def run(folder, command="test", draws=50, **options):
    own = data(**options)
    trainer = make_trainer(folder, callbacks=[Bootstrap(folder / "run", draws)])
    results = getattr(trainer, command)(make_module(), datamodule=own, verbose=False)
    split = "test" if command == "test" else "val"
    path = folder / "run" / f"{split}_bootstrap.json"
    return results[0], json.loads(path.read_text()) if path.exists() else None


@pytest.mark.parametrize(("command", "split"), [("test", "test"), ("validate", "val")])
def test_draws_lie_around_the_metrics_of_the_split(tmp_path, command, split):
    logged, found = run(tmp_path, command)
    assert found["split"] == split
    assert list(found["tasks"]) == ["kind", "size"], "rare has no label here"
    size = found["tasks"]["size"]
    assert (size["primary"], size["higher_is_better"]["mae"]) == ("r2", False)
    assert size["metrics"]["mae"] == pytest.approx(logged[f"{split}/size/mae"])
    draws = np.array(size["draws"]["mae"])
    assert draws.shape == (50,)
    assert draws.min() < size["metrics"]["mae"] < draws.max()
    assert draws.mean() == pytest.approx(size["metrics"]["mae"], rel=0.1)


def test_draws_do_not_depend_on_batches(tmp_path):
    one, other = (run(tmp_path / str(size), batch_size=size)[1] for size in (4, 7))
    for task in one["tasks"]:
        for name, draws in one["tasks"][task]["draws"].items():
            assert other["tasks"][task]["draws"][name] == pytest.approx(draws, rel=1e-5), name


def test_images_are_those_that_carry_a_label_in_any_order(tmp_path):
    _, found = run(tmp_path / "test")
    _, val = run(tmp_path / "val", "validate")
    images = {task: own["images"] for task, own in found["tasks"].items()}
    assert images["kind"] != images["size"], "every fourth has no kind"
    assert images["size"] != val["tasks"]["size"]["images"]
    assert run(tmp_path / "again")[1]["tasks"]["size"]["images"] == images["size"]


def on_ranks(folder, devices):
    """Write the file into ``folder / "run"``."""
    trainer = make_trainer(folder, devices=devices, callbacks=[Bootstrap(folder / "run", 20)])
    trainer.test(make_module(), datamodule=data(batch_size=4 // devices), verbose=False)


def test_two_ranks_write_what_one_process_does(tmp_path):
    on_ranks(tmp_path / "one", 1)
    own = {"folder": tmp_path / "two", "devices": 2}
    ranks.run([(f"{__name__}.on_ranks", own)], tmp_path)
    one, two = (
        json.loads((tmp_path / name / "run" / "test_bootstrap.json").read_text())
        for name in ("one", "two")
    )
    for task, own in one["tasks"].items():
        assert two["tasks"][task]["images"] == own["images"]
        for name, draws in own["draws"].items():
            assert two["tasks"][task]["draws"][name] == pytest.approx(draws, rel=1e-5), name


def test_nothing_without_draws_and_in_a_training(tmp_path):
    assert run(tmp_path, draws=0)[1] is None
    trainer = make_trainer(tmp_path, callbacks=[Bootstrap(tmp_path / "run", 10)])
    trainer.fit(make_module(), datamodule=data())
    assert not (tmp_path / "run").exists()
