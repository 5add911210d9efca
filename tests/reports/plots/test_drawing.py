from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from mtl_lightning.reports.plots import draw, drawing
from mtl_lightning.reports.plots.drawing import draw_task
from mtl_lightning.runs.facts import Evaluation
from mtl_lightning.tasks.label_metrics import BINS
from mtl_lightning.tasks.plot_records import (
    ConfusionCounts,
    LabelCurves,
    PlotRecord,
    ScatterSample,
)
from mtl_lightning.tasks.results import Results


class Own(PlotRecord):
    """A record of a task of one's own."""

    def to_json(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_json(cls, values) -> "Own":
        return cls()


def test_confusion_counts_become_a_matrix():
    counts = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    figure = draw(ConfusionCounts(["a", "b", "c"], counts), "kind", "val")
    assert np.asarray(figure.axes[0].images[0].get_array())[2].tolist() == [0, 1, 0]
    assert [text.get_text() for text in figure.texts] == ["kind", "val"]


def test_label_curves_become_a_chart_of_labels():
    positives, negatives = np.zeros((2, 2, BINS), dtype=np.int64)
    positives[:, [100, 900]] = [[1, 1], [0, 1]]
    negatives[:, 600] = 2
    figure = draw(LabelCurves(["hat", "bag"], positives, negatives), "wears", "val")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [
        "bag (1 yes of 3)",
        "hat (2 yes of 4)",
    ]


@pytest.mark.parametrize(("labelled", "small"), [(3, "val"), (2000, None)])
def test_a_scatter_says_when_it_is_a_sample(labelled, small):
    values = np.arange(3, dtype=np.float32)
    figure = draw(ScatterSample(values, values, labelled), "size", "val")
    assert figure.texts[1].get_text() == (small or "val · 3 of 2,000 drawn, a random sample")


def test_an_own_record_brings_its_own_drawing():
    with pytest.raises(TypeError, match=r"Own has no drawing; register one with .*draw\.register"):
        draw(Own(), "own", "")

    @dataclass(frozen=True)
    class Drawable(Own):
        number: int = 0

    @draw.register
    def _(record: Drawable, title: str, subtitle: str) -> Figure:
        figure = Figure()
        figure.text(0, 0, f"{title} {record.number} {subtitle}")
        return figure

    assert draw(Drawable(7), "own", "val").texts[0].get_text() == "own 7 val"


@pytest.mark.parametrize(
    ("command", "step", "weights", "caption"),
    [
        ("fit", 1200, None, "val at the last validation, after 1,200 steps"),
        ("validate", None, "best.ckpt", "val, weights of best.ckpt"),
        ("validate", None, None, "val"),
    ],
)
def test_a_task_is_drawn_under_its_metrics(monkeypatch, command, step, weights, caption):
    seen = []
    monkeypatch.setattr(drawing, "draw", lambda *given: seen.append(given))
    values = {"n_labelled": 1089, "loss": 2.5, "mean_ap": 0.71259, "ap/hat": 0.5}
    record = Own()
    results = Results("val", {"tags": values}, 2.5, 0.7)
    evaluation = Evaluation(command, "2026-01-01", step, weights, results, {"tags": record})
    draw_task(evaluation, "tags")
    assert seen == [(record, "tags", f"{caption} · 1,089 labelled · mean ap 0.713")]


def test_of_many_tasks_those_with_the_lowest_scores_are_drawn(monkeypatch):
    monkeypatch.setattr(drawing, "MOST", 2)
    tasks = ["a", "b", "c", "d"]
    assert drawing.lowest(tasks, {"a": 0.9, "b": 0.1, "d": 0.2}) == ["b", "d"]
    assert drawing.lowest(tasks, {"c": 0.9}) == ["a", "c"]
    assert drawing.lowest(tasks[:2], {}) == ["a", "b"]
