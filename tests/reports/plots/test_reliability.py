import numpy as np

from mtl_lightning.reports.plots import draw
from mtl_lightning.reports.plots.canvas import pixels
from mtl_lightning.tasks.reliability import ReliabilityBins


def bins():
    rows, hits, confidence = np.zeros((3, 2, 15))
    rows[0, [7, 14]], hits[0, [7, 14]], confidence[0, [7, 14]] = [10, 30], [5, 27], [5, 29]
    rows[1, 14], hits[1, 14], confidence[1, 14] = 40, 32, 39
    return ReliabilityBins(rows.astype(int), hits.astype(int), confidence)


def test_points_are_the_accuracy_of_bins_that_have_answers():
    figure = draw(bins(), "kind", "test")
    upper, lower = figure.axes
    diagonal, after, before = upper.lines
    assert np.allclose(after.get_xydata(), [[0.5, 0.5], [29 / 30, 0.9]])
    assert np.allclose(before.get_xydata(), [[39 / 40, 0.8]])
    assert [text.get_text() for text in upper.get_legend().texts] == ["calibrated", "before"]
    assert [patch.get_data().values.sum() for patch in lower.patches] == [40, 40]
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert pixels(figure).std() > 0


def test_nothing_to_draw():
    nothing = np.zeros((2, 15), int)
    figure = draw(ReliabilityBins(nothing, nothing, nothing * 1.0), "kind", "test")
    assert figure.axes[0].texts[0].get_text() == "no answer has a confidence"
