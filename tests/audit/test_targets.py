import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mtl_lightning.audit import targets
from mtl_lightning.audit.absence_odds import StepSize
from mtl_lightning.audit.report import Report, audit
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.sources import TableSource
from mtl_lightning.reports import audit_console
from mtl_lightning.system.progress import ProgressBar
from mtl_lightning.tasks import DenseRegression, Segmentation
from tests.helpers.segmentation import png, write_photos


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "data")


def audited(table: Path, everything: bool = False) -> Report:
    tasks = {"parts": Segmentation(["a", "b", "c"]), "heat": DenseRegression("K", 0.5, 255)}
    source = TableSource(str(table), labels={"parts": "parts", "heat": "parts"})
    data = PartialLabels(tasks, {"photos": source}, image_size=16)
    return audit("photos", data, StepSize(8, 1, 1), 0, everything, ProgressBar(None))


def test_shares_of_classes_and_ranges_are_those_of_the_pixels(table):
    (table.parent / "masks/3.png").write_bytes(png(np.full((16, 16), 255)))
    report = audited(table)
    files = sorted((table.parent / "masks").glob("*.png"), key=lambda path: int(path.stem))
    task = Segmentation(["a", "b", "c"])
    named = [f for f in files if int(f.stem) % 3 != 2 and int(f.stem) != 3]
    pixels = np.concatenate([task.load_target(f.read_bytes()).numpy().ravel() for f in named])
    counts = np.bincount(pixels, minlength=4)
    shares = [f"{name} {counts[k] / counts[1:].sum():.1%}" for k, name in enumerate("abc", 1)]
    survey = report.targets["parts"]
    assert survey.summary == [*shares, f"ignored {counts[0] / counts.sum():.1%} of all"]
    assert (survey.read, survey.total) == (27, 27)
    assert [Path(name).name for name in survey.void] == ["3.png"]
    assert report.targets["heat"].summary[0] == "0 to 1 K"
    out = io.StringIO()
    for part in audit_console.parts(report):
        Console(file=out, width=200).print(part)
    assert "  parts  pixels of 27 of 27 files\n    a " in out.getvalue()
    assert "task parts: 1 of the 27 target files read hold no label" in out.getvalue()


def test_a_sample_of_the_files_is_read_unless_all_are_asked_for(table, monkeypatch):
    monkeypatch.setattr(targets, "READ", 5)
    for everything, read in ((False, 5), (True, 27)):
        survey = audited(table, everything).targets["parts"]
        assert (survey.read, survey.total) == (read, 27)


def test_files_that_cannot_be_used_are_errors(table):
    (table.parent / "masks/0.png").write_bytes(b"no image")
    (table.parent / "masks/1.png").write_bytes(png(np.full((16, 16), 9)))
    report = audited(table)
    found = {finding.what: finding for finding in report.findings}
    finding = found["task parts: 2 of the 27 target files read cannot be used"]
    assert "0.png cannot be used for task parts (not an image" in finding.where[0]
    assert "1.png cannot be used for task parts (value 9 of 256 pixels" in finding.where[1]
    assert len(report.targets["heat"].unusable) == 1
