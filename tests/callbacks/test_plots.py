from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtl_lightning.callbacks import plots
from mtl_lightning.callbacks.plots import Plots
from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.reports.plots import drawing
from mtl_lightning.runs.loggers import ResumableCSVLogger
from mtl_lightning.tasks import Classification
from mtl_lightning.tasks.plot_data import ConfusionPlotData
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import Memory, make_data, make_more_tasks, sparse_labels
from tests.helpers.models import Small
from tests.helpers.training import fit, make_trainer


class Answering(MultiTask):
    """Gives the outputs of the network to the callbacks."""

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        super().validation_step(batch, batch_idx)
        return self.network(batch.inputs, batch.labelled)

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        super().test_step(batch, batch_idx)
        return self.network(batch.inputs, batch.labelled)


def make_module() -> MultiTask:
    torch.manual_seed(1)
    return Answering(make_more_tasks(), Small(), dropout=0.0, image_size=16)


def make_test_data(rows: int = 41, batch_size: int = 8) -> PartialLabels:
    labels = sparse_labels(rows)
    labels["rare"] = [None] * rows
    source = Memory(labels, ["test"] * rows)
    return PartialLabels(
        make_more_tasks(), {"memory": source}, batch_size=batch_size, image_size=16, num_workers=0
    )


def drawn(folder: Path) -> list[Callback]:
    """The callbacks that draw a run, which is written to the folder."""
    recorder = RunRecorder(folder)
    return [recorder, Plots(recorder)]


def evaluated(folder: Path) -> MultiTask:
    module = make_module()
    trainer = make_trainer(folder, callbacks=drawn(folder))
    trainer.test(module, make_test_data(), verbose=False)
    return module


def pngs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and "png" in path.name)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> tuple[Path, MultiTask]:
    root = tmp_path_factory.mktemp("runs")
    run = root / "name" / "version_0"
    loggers = [
        ResumableCSVLogger(root, "name", "version_0"),
        TensorBoardLogger(root, "name", "version_0"),
    ]
    data = make_data(tasks=make_more_tasks())
    module = fit(root, data, make_module(), callbacks=drawn(run), logger=loggers, max_epochs=2)
    return run, module


def test_fit_leaves_curves_and_a_picture_of_each_task(fitted):
    run, module = fitted
    names = [
        f"val_{name}.png"
        for name, values in module.results["val"].tasks.items()
        if values["n_labelled"]
    ]
    assert pngs(run) == sorted(["curves.png", *names])
    assert np.asarray(Image.open(run / "curves.png")).std() > 5


def test_tensorboard_has_the_same_images(fitted):
    run, _ = fitted
    events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    assert sorted(f"{tag}.png" for tag in events.Tags()["images"]) == pngs(run)
    (image,) = events.Images("curves")
    with Image.open(run / "curves.png") as file:
        assert (image.width, image.height) == file.size
    assert image.step == 12


def test_what_was_written_is_printed_in_one_line(tmp_path, capsys):
    evaluated(tmp_path)
    printed = capsys.readouterr().out.strip()
    assert printed == f"written: {tmp_path}: test_kind.png, test_size.png, test_tags.png"


def test_a_task_without_a_label_in_the_split_has_no_picture(tmp_path):
    evaluated(tmp_path)
    assert pngs(tmp_path) == ["test_kind.png", "test_size.png", "test_tags.png"]


@pytest.mark.parametrize("broken", ["plot_data", "update", "compute", "draw", "pixels"])
def test_an_error_costs_the_picture_and_one_line(tmp_path, monkeypatch, capsys, broken):
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("no [such]\nfont")

    if broken == "pixels":
        monkeypatch.setattr(plots, "pixels", fail)
    elif broken == "draw":
        monkeypatch.setattr(drawing, "confusion", fail)
    elif broken == "plot_data":
        monkeypatch.setattr(Classification, "plot_data", fail)
    else:
        monkeypatch.setattr(ConfusionPlotData, broken, fail)
    evaluated(tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert lines[0] == "warning: no picture of task kind: ValueError: no [such] font"
    everything = broken == "pixels"
    assert pngs(tmp_path) == ([] if everything else ["test_size.png", "test_tags.png"])
    # Two tasks are classifications; `rare` has no label here, so nothing is asked of it later.
    assert len(lines) == (3 if everything else 2 if broken in ("plot_data", "update") else 1)


def test_a_trial_run_leaves_nothing_and_a_run_without_validation_its_curves(tmp_path):
    data = make_data(tasks=make_more_tasks())
    fit(tmp_path, data, make_module(), callbacks=drawn(tmp_path / "trial"), fast_dev_run=True)
    assert not (tmp_path / "trial").exists()
    fit(tmp_path, data, make_module(), callbacks=drawn(tmp_path), limit_val_batches=0)
    assert pngs(tmp_path) == ["curves.png"]


def test_a_name_that_is_no_file_name_is_encoded(tmp_path):
    labels = {"a/b": ["x", "y"] * 4}
    tasks = {"a/b": Classification(["x", "y"])}
    data = PartialLabels(
        tasks, {"m": Memory(labels, ["test"] * 8)}, batch_size=8, image_size=16, num_workers=0
    )
    module = Answering(tasks, Small(), image_size=16)
    make_trainer(tmp_path, callbacks=drawn(tmp_path)).test(module, data, verbose=False)
    assert pngs(tmp_path) == ["test_a%2Fb.png"]


def test_of_many_tasks_those_with_the_lowest_scores_are_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plots, "MOST", 2)
    monkeypatch.setattr(drawing, "MOST", 2)
    evaluated(tmp_path)
    assert len(pngs(tmp_path)) == 2
    assert capsys.readouterr().out.rstrip().endswith("tasks, the 2 with the lowest scores")
