from typing import Any

import numpy as np
import pytest

from mtl_lightning.tasks import Classification
from mtl_lightning.tasks.plot_data import ConfusionPlotData
from tests.helpers.training import evaluated


def test_the_records_are_of_the_labelled_rows(tmp_path):
    evaluation = evaluated(tmp_path)
    values, plots = evaluation.results.tasks, evaluation.plots
    assert set(plots) == {"kind", "size", "tags"}, "no label of rare in the split"
    counts = plots["kind"].counts
    assert counts.sum() == values["kind"]["n_labelled"] > 0
    assert counts.trace() / counts.sum() == pytest.approx(values["kind"]["accuracy"])
    sample = plots["size"]
    assert sample.n_labelled == len(sample.labels) == values["size"]["n_labelled"]
    error = np.abs(sample.predictions - sample.labels).mean()
    assert error == pytest.approx(values["size"]["mae"], rel=1e-5)
    labelled = plots["tags"].outcomes().sum(1).tolist()
    assert labelled == [values["tags"][f"n_labelled/{tag}"] for tag in ("hat", "bag")]


def test_two_ranks_collect_what_one_process_collects(tmp_path, on_two_ranks):
    one, pair = evaluated(tmp_path).plots, on_two_ranks["evaluated"].plots
    assert one.keys() == pair.keys()
    assert np.array_equal(one["kind"].counts, pair["kind"].counts)
    assert np.array_equal(one["tags"].positives, pair["tags"].positives)
    assert np.array_equal(one["tags"].negatives, pair["tags"].negatives)
    assert one["size"].n_labelled == pair["size"].n_labelled
    assert np.array_equal(one["size"].labels, pair["size"].labels)
    assert np.allclose(one["size"].predictions, pair["size"].predictions, rtol=1e-5)


@pytest.mark.parametrize("broken", ["plot_data", "update", "compute"])
def test_an_error_costs_the_record_and_one_line(tmp_path, monkeypatch, capsys, broken):
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("no [such]\nfont")

    owner = Classification if broken == "plot_data" else ConfusionPlotData
    monkeypatch.setattr(owner, broken, fail)
    assert set(evaluated(tmp_path).plots) == {"size", "tags"}
    lines = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert lines[0] == "warning: no picture of task kind: ValueError: no [such] font"
    # Two tasks are classifications; `rare` has no label here, so nothing is asked of it later.
    assert len(lines) == (1 if broken == "compute" else 2)
