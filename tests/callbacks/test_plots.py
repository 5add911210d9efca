from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtl_lightning.callbacks import plots as plots_module
from mtl_lightning.callbacks.plots import Plots
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.reports.plots import canvas, drawing
from mtl_lightning.runs.loggers import ResumableCSVLogger
from mtl_lightning.tasks import Classification
from mtl_lightning.tasks.plot_data import ConfusionPlotData
from mtl_lightning.training.module import MultiTask
from tests.helpers import two_ranks
from tests.helpers.support import (
    Memory,
    Small,
    fit,
    make_data,
    make_more_tasks,
    make_trainer,
    sparse_labels,
)


class Kept(Plots):
    """Keeps what the tasks' pictures are drawn from."""

    def _draw_tasks(self, trainer: Any, module: MultiTask, split: str, caption: str) -> None:
        self.kept, self.caption = dict(self._collected), caption
        super()._draw_tasks(trainer, module, split, caption)


class Answering(MultiTask):
    """Gives the callbacks what the network said."""

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        super().validation_step(batch, batch_idx)
        return self.network(batch.images, batch.labelled)

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        super().test_step(batch, batch_idx)
        return self.network(batch.images, batch.labelled)


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


def evaluated(folder: Path, devices: int = 1) -> dict[str, Any]:
    plots = Kept(folder)
    strategy = "ddp" if devices > 1 else "auto"
    trainer = make_trainer(folder, devices=devices, strategy=strategy, callbacks=[plots])
    trainer.test(make_module(), make_test_data(batch_size=8 // devices), verbose=False)
    return plots.kept


def pngs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and "png" in path.name)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> tuple[Path, Kept, MultiTask]:
    root = tmp_path_factory.mktemp("runs")
    run = root / "name" / "version_0"
    plots = Kept(run)
    loggers = [
        ResumableCSVLogger(root, "name", "version_0"),
        TensorBoardLogger(root, "name", "version_0"),
    ]
    data = make_data(tasks=make_more_tasks())
    module = fit(root, data, make_module(), callbacks=[plots], logger=loggers, max_epochs=2)
    return run, plots, module


def test_fit_leaves_curves_and_a_picture_of_each_task(fitted):
    run, plots, module = fitted
    names = [
        f"val_{name}.png"
        for name, values in module.results["val"].tasks.items()
        if values["n_labelled"]
    ]
    assert pngs(run) == sorted(["curves.png", *names])
    assert "last validation, after 12 steps" in plots.caption
    assert np.asarray(Image.open(run / "curves.png")).std() > 5


def test_the_pictures_are_of_the_last_validation_alone(fitted):
    _, plots, module = fitted
    values = module.results["val"].tasks["kind"]
    matrix = plots.kept["kind"].counts
    assert matrix.sum() == values["n_labelled"] > 0
    assert matrix.trace() / matrix.sum() == pytest.approx(values["accuracy"])
    sample = plots.kept["size"]
    assert sample.n_labelled == len(sample.labels)
    assert sample.n_labelled == module.results["val"].tasks["size"]["n_labelled"]
    assert np.abs(sample.predictions - sample.labels).mean() == pytest.approx(
        module.results["val"].tasks["size"]["mae"], rel=1e-5
    )


def test_tensorboard_has_the_same_images(fitted):
    run, _, _ = fitted
    events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    assert sorted(f"{tag}.png" for tag in events.Tags()["images"]) == pngs(run)
    (image,) = events.Images("curves")
    with Image.open(run / "curves.png") as file:
        assert (image.width, image.height) == file.size
    assert image.step == 12


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[dict[str, Any], dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("test")
    (pair,) = two_ranks.run([(f"{__name__}.evaluated", {"folder": folder, "devices": 2})], folder)
    one = tmp_path_factory.mktemp("one")
    return evaluated(one), pair, one


def test_two_ranks_draw_what_one_process_draws(both):
    one, pair, _ = both
    assert one.keys() == pair.keys() == {"kind", "size", "tags"}
    assert np.array_equal(one["kind"].counts, pair["kind"].counts)
    assert np.allclose(one["tags"].positives, pair["tags"].positives)
    assert np.allclose(one["tags"].negatives, pair["tags"].negatives)
    size, of_the_pair = one["size"], pair["size"]
    assert size.n_labelled == of_the_pair.n_labelled == len(size.labels)
    assert np.array_equal(size.labels, of_the_pair.labels)
    assert np.allclose(size.predictions, of_the_pair.predictions, rtol=1e-5)


def test_what_was_written_is_said_in_one_line(tmp_path, capsys):
    evaluated(tmp_path)
    said = capsys.readouterr().out.strip()
    assert said == f"written: {tmp_path}: test_kind.png, test_size.png, test_tags.png"


def test_a_task_without_a_label_in_the_split_has_no_picture(both):
    _, _, folder = both
    assert pngs(folder) == ["test_kind.png", "test_size.png", "test_tags.png"]


def test_the_small_print_has_the_numbers_of_the_results(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        plots_module, "draw", lambda record, title, small: seen.update({title: small})
    )
    plots = Plots(tmp_path)
    trainer = make_trainer(tmp_path, callbacks=[plots])
    module = make_module()
    trainer.test(module, make_test_data(), verbose=False)
    values = module.results["test"].tasks["kind"]
    assert seen["kind"].startswith(f"test · {values['n_labelled']} labelled · accuracy ")
    assert f"balanced accuracy {values['balanced_accuracy']:.3g}" in seen["kind"]
    assert "mean ap" in seen["tags"]
    assert "hat" not in seen["tags"]  # a number for each label is what the chart is for


@pytest.mark.parametrize("broken", ["plot_data", "update", "compute", "draw", "pixels"])
def test_an_error_costs_the_picture_and_one_line(tmp_path, monkeypatch, capsys, broken):
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("no [such]\nfont")

    if broken == "pixels":
        monkeypatch.setattr(canvas, "pixels", fail)
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


def test_a_trial_run_and_a_run_without_validation_leave_no_picture(tmp_path):
    data = make_data(tasks=make_more_tasks())
    fit(tmp_path, data, make_module(), callbacks=[Plots(tmp_path / "trial")], fast_dev_run=True)
    assert not (tmp_path / "trial").exists()
    fit(tmp_path, data, make_module(), callbacks=[Plots(tmp_path)], limit_val_batches=0)
    assert pngs(tmp_path) == []


def test_a_name_that_is_no_file_name_is_encoded(tmp_path):
    labels = {"a/b": ["x", "y"] * 4}
    tasks = {"a/b": Classification(["x", "y"])}
    data = PartialLabels(
        tasks, {"m": Memory(labels, ["test"] * 8)}, batch_size=8, image_size=16, num_workers=0
    )
    module = Answering(tasks, Small(), image_size=16)
    make_trainer(tmp_path, callbacks=[Plots(tmp_path)]).test(module, data, verbose=False)
    assert pngs(tmp_path) == ["test_a%2Fb.png"]
