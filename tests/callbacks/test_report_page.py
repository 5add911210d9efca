import json

import pytest

from mtl_lightning.callbacks.gallery import Gallery
from mtl_lightning.callbacks.report_page import ReportPage
from mtl_lightning.callbacks.results_file import ResultsFile
from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.reports import run_page
from mtl_lightning.runs import run_file
from tests.helpers.data import Memory, make_data, sparse_labels
from tests.helpers.training import make_module, make_trainer


@pytest.fixture
def pictureless(monkeypatch):
    monkeypatch.setattr(run_page, "lowest", lambda *_: [])


def run_of_a_test(folder, **options):
    """Test a network in a run's folder, and return that."""
    run = folder / "shop" / "version_0"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("seed_everything: 7\n")
    recorder = RunRecorder(run, gallery=(gallery := Gallery()))
    callbacks = [gallery, recorder, ResultsFile(run), ReportPage(recorder)]
    trainer = make_trainer(folder, callbacks=callbacks, **options)
    data = make_data(sources={"memory": Memory(sparse_labels(20), ["train"] * 5 + ["test"] * 15)})
    trainer.test(make_module(), datamodule=data, verbose=False)
    return run


def test_a_test_ends_with_the_page(tmp_path, capsys, pictureless):
    run = run_of_a_test(tmp_path)
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "<h1>shop/version_0</h1>" in html
    assert "seed_everything: 7" in html
    assert "Worst mistakes" in html
    assert "<td>finished</td>" in html, "of the test itself"
    lines = [line for line in capsys.readouterr().out.splitlines() if "written" in line]
    assert [line.rpartition("/")[2] for line in lines] == ["test_metrics.json", "report.html"]


def test_an_error_costs_the_page_alone(tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise OSError("the disk\nis full")

    monkeypatch.setattr(run_page, "page", broken)
    run = run_of_a_test(tmp_path)
    assert not (run / "report.html").exists()
    assert "warning: no report.html: OSError: the disk is full" in capsys.readouterr().out
    assert json.loads((run / "test_metrics.json").read_text())["tasks"]["kind"]["n_labelled"]
    assert run_file.read(run).sessions[0].outcome == "finished"


def test_a_trial_writes_none(tmp_path, pictureless):
    assert not (run_of_a_test(tmp_path, fast_dev_run=True) / "report.html").exists()
