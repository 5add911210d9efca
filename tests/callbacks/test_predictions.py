from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch

from mtl_lightning.callbacks.predictions import PredictionsFile
from mtl_lightning.inference.predictions import table
from mtl_lightning.inference.predictions.maps import PredictionMaps
from mtl_lightning.inference.predictions.parts import PredictionParts
from mtl_lightning.inference.predictions.table import PredictionTable
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification
from mtl_lightning.tasks.calibration import Calibration
from tests.helpers import ranks
from tests.helpers.data import KINDS, make_data
from tests.helpers.training import make_module, make_trainer


class Images:
    """Images that differ, in an order that is not that of their names."""

    def __init__(self, count, bad=()):
        self.bad = bad
        self.names = [f"photo {(7 * i) % count}, a.png" for i in range(count)]

    def __len__(self):
        return len(self.names)

    def name(self, row):
        return self.names[row]

    def location(self, row):
        return "--images"

    def load(self, row):
        if row in self.bad:
            raise UserError(f"image {self.names[row]} cannot be read (broken)")
        return np.random.default_rng(row).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def predicted(
    folder: Path,
    devices: int,
    count: int,
    suffix: str = ".csv",
    times: int = 1,
    bad: tuple[int, ...] = (),
    what: Literal["error", "skip"] = "error",
    rows: int = 2000,
    resume: bool = False,
    of: str = "",
    mean: float = 50.0,
) -> Path:
    """Predict ``count`` images, in parts of so many rows of each rank, and return the file."""
    table.ROWS = rows
    output = folder / f"new folder/{devices} {count}{suffix}"
    data = make_data(batch_size=2, on_bad_image=what, max_bad_share=0.7)
    images = Images(count, bad)
    data.predict_on(images)
    module = make_module()
    module.tasks["size"].fit_statistics(torch.tensor([mean - 10, mean + 10]), torch.ones(()))
    trainer = make_trainer(
        folder,
        devices=devices,
        callbacks=[
            PredictionsFile(PredictionTable(images.names, output), {"settings": of}, resume)
        ],
    )
    for _ in range(times):
        trainer.predict(module, datamodule=data, return_predictions=False)
    return output


def expected(count):
    """The same, image by image, without loaders."""
    images, module = Images(count), make_module().eval()
    module.tasks["size"].fit_statistics(torch.tensor([40.0, 60.0]), torch.ones(()))
    rows = []
    for i, name in enumerate(images.names):
        image = torch.from_numpy(images.load(i)).permute(2, 0, 1)[None]
        with torch.no_grad():
            outputs = module(image)
        kind, rare = outputs["kind"].softmax(1)[0], outputs["rare"].softmax(1)[0]
        rows.append(
            {"image": name, "kind": KINDS[int(kind.argmax())]}
            | {f"kind:{name}": float(kind[k]) for k, name in enumerate(KINDS)}
            | {"size": float(outputs["size"]) * 10 + 50}
            | {"rare": ["no", "yes"][int(rare.argmax())]}
            | {"rare:no": float(rare[0]), "rare:yes": float(rare[1])}
        )
    return pd.DataFrame(rows)


def read(path):
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True)
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def assert_as_expected(path, count):
    found, wanted = read(path), expected(count)
    assert list(found) == list(wanted)
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False, rtol=1e-4, atol=1e-5)
    assert [p.name for p in path.parent.iterdir() if "part" in p.name] == []


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_every_image_once_in_order(tmp_path, suffix, capsys):
    path = predicted(tmp_path, 1, 9, suffix)
    assert_as_expected(path, 9)
    assert f"written: {path} (9 images)" in capsys.readouterr().out


COUNTS = [1, 2, 7]  # one rank without an image, a whole round, an uneven end


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Predict on two ranks, all in one pair of processes."""
    folder = tmp_path_factory.mktemp("ranks")
    name = f"{__name__}.predicted"
    cases = [(name, {"folder": folder, "devices": 2, "count": count}) for count in COUNTS]
    bad = {"count": 8, "bad": (0, 3, 5, 7), "what": "skip"}
    cases.append((name, {"folder": folder, "devices": 2, **bad}))
    cases.append((f"{__name__}.interrupted", {"folder": folder, "devices": 2, "after": 2}))
    return dict(zip([*COUNTS, "bad", "interrupted"], ranks.run(cases, folder), strict=True))


@pytest.mark.parametrize("count", COUNTS)
def test_every_image_once_in_order_on_two_ranks(two, count):
    assert_as_expected(two[count], count)


def interrupted(folder: Path, devices: int, after: int) -> Path:
    """Predict 15 images but fail at images 8 to 11 of any rank, then go on."""
    with pytest.raises(UserError, match="cannot be read"):
        predicted(
            folder / "cut", devices, 15, rows=after, bad=(8, 9, 10, 11)[-1 if devices == 1 else 0 :]
        )
    path = folder / "cut/new folder" / f"{devices} 15.csv"
    assert not path.exists()
    loaded = []
    load = Images.load
    Images.load = lambda self, row: loaded.append(row) or load(self, row)
    try:
        predicted(folder / "cut", devices, 15, rows=after, resume=True)
    finally:
        Images.load = load
    assert 0 < len(loaded) <= 9 // devices
    return path


@pytest.mark.parametrize(("after", "kept"), [(2, 10), (5, 6)])
def test_a_run_that_ended_early_goes_on(tmp_path, after, kept, capsys):
    path = interrupted(tmp_path, 1, after)
    shown = capsys.readouterr().out
    assert f"kept: the answers for {kept} of 15 images; the same command with --resume" in shown
    assert f"resumed: {kept} of 15 images were predicted before" in shown
    whole = predicted(tmp_path, 1, 15)
    assert path.read_bytes() == whole.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_run_with_another_calibration_does_not_go_on(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot be read"):
        predicted(tmp_path, 1, 9, rows=2, bad=(7,))
    monkeypatch.setattr(Classification, "calibration", Calibration(temperature=2.0))
    with pytest.raises(UserError, match="are of other calibration; leave --resume out"):
        predicted(tmp_path, 1, 9, resume=True)


def test_a_slow_run_keeps_what_it_has_after_a_while(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table, "SECONDS", 0.0)
    with pytest.raises(UserError, match="cannot be read"):
        predicted(tmp_path, 1, 15, bad=(11,))
    assert "kept: the answers for 10 of 15 images" in capsys.readouterr().out


def test_a_run_that_ended_early_goes_on_on_two_ranks(two):
    assert_as_expected(two["interrupted"], 15)


def test_a_run_that_ended_before_its_table_was_complete_goes_on(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", fail)
        with pytest.raises(OSError, match="no space left"):
            predicted(tmp_path, 1, 9, rows=4)
    assert_as_expected(predicted(tmp_path, 1, 9, rows=4, resume=True), 9)


def test_maps_outlive_a_run_that_is_killed_after_they_are_complete(tmp_path, monkeypatch):
    left = []
    finish = PredictionMaps.finish
    monkeypatch.setattr(
        PredictionMaps,
        "finish",
        lambda self: left.append(PredictionParts(path).count()) or finish(self),
    )
    path = tmp_path / "new folder/1 9.csv"
    predicted(tmp_path, 1, 9)
    assert left == [0], "a run that goes on would predict, and keep, the last part alone"


def test_a_run_about_something_else_does_not_go_on(tmp_path, capsys):
    with pytest.raises(UserError, match="cannot be read"):
        predicted(tmp_path, 1, 9, rows=2, bad=(7,))
    with pytest.raises(UserError, match="are of other settings; leave --resume out"):
        predicted(tmp_path, 1, 9, resume=True, of="64 px")
    with pytest.raises(UserError, match="are of other weights; leave --resume out"):
        predicted(tmp_path, 1, 9, resume=True, mean=60.0)
    assert capsys.readouterr().out.count("kept: ") == 1, "by the first run"
    assert_as_expected(predicted(tmp_path, 1, 9, resume=True), 9)


def test_a_run_leaves_the_parts_of_another_alone(tmp_path):
    output = tmp_path / "new folder/1 9.csv"
    other = PredictionParts(output)
    other.start({}, None)
    with pytest.raises(UserError, match="another process writes to"):
        predicted(tmp_path, 1, 9)
    assert other.folder.is_dir()
    other.remove()
    assert_as_expected(predicted(tmp_path, 1, 9), 9)


def assert_empty_where_bad(path):
    found, wanted = read(path), expected(8)
    assert found["image"].tolist() == wanted["image"].tolist()
    answers = found.columns[1:]
    assert found[answers].isna().all(axis=1).tolist() == [i in (0, 3, 5, 7) for i in range(8)]
    wanted.loc[[0, 3, 5, 7], answers] = None
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_bad_image_has_its_row_without_answers(tmp_path, suffix):
    assert_empty_where_bad(predicted(tmp_path, 1, 8, suffix, bad=(0, 3, 5, 7), what="skip"))


def test_a_bad_image_has_its_row_without_answers_on_two_ranks(two):
    assert_empty_where_bad(two["bad"])


@pytest.mark.parametrize(("what", "message"), [("error", "cannot be read"), ("skip", "6 of 8")])
def test_a_bad_image_or_too_many_stop_it_before_anything_is_written(tmp_path, what, message):
    with pytest.raises(UserError, match=message):
        predicted(tmp_path, 1, 8, bad=(0, 1, 2, 3, 4, 5), what=what)
    assert not list(tmp_path.glob("new folder/*"))


def test_a_second_prediction_starts_over(tmp_path):
    assert_as_expected(predicted(tmp_path, 1, 3, times=2), 3)


def test_an_earlier_file_is_replaced_and_a_failure_leaves_it(tmp_path, monkeypatch):
    path = predicted(tmp_path, 1, 3)
    before = path.read_text()

    def fail(self, to, **_):
        Path(to).write_text("half a ta")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", fail)
        with pytest.raises(OSError, match="no space left"):
            predicted(tmp_path, 1, 3)
    assert path.read_text() == before
    assert sorted(p.name for p in path.parent.iterdir()) == [f".{path.name}.parts", path.name]
    path.write_text("old")
    predicted(tmp_path, 1, 3)
    assert path.read_text() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
