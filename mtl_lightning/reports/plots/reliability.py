"""A reliability diagram: accuracy by confidence, with the calibration and without."""

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mtl_lightning.reports.plots.canvas import BLUE, GREY, ORANGE, name_spot, new_figure, note, tidy
from mtl_lightning.tasks.reliability import ReliabilityBins


def reliability(record: ReliabilityBins, title: str, subtitle: str) -> Figure:
    """Draw the accuracy of the answers in each bin against their mean confidence.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", figure 1. Of calibrated answers,
    points are on the diagonal; below it they are right less often than they are sure. Bars are the
    number of answers in each bin.

    Args:
        record: The bins.
        title: The heading.
        subtitle: Small print below it.
    """
    figure = new_figure(5.2, 4.6, title, subtitle)
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    for axes in (upper, lower):
        tidy(axes)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    lower.set(xlabel="confidence of the answer", ylabel="answers")
    for axis in (upper.xaxis, upper.yaxis, lower.xaxis):
        axis.set_major_formatter(PercentFormatter(1))
    if not record.rows.any():
        note(upper, "no answer has a confidence")
        return figure
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    ends = [i / record.rows.shape[1] for i in range(record.rows.shape[1])]
    for place, (colour, name) in enumerate(((BLUE, "calibrated"), (ORANGE, "before"))):
        some = record.rows[place] > 0
        rows = record.rows[place][some]
        x, y = record.confidence[place][some] / rows, record.hits[place][some] / rows
        upper.plot(x, y, color=colour, linewidth=1.2, marker="o", markersize=3.5, label=name)
        for confidence, accuracy, count in zip(x, y, rows, strict=True):
            text = f"{name}: {accuracy:.1%} right at {confidence:.1%}, {count:,} answers"
            name_spot(upper, (confidence, accuracy), text)
        lower.stairs(record.rows[place], [*ends, 1.0], color=colour, linewidth=1.2)
    upper.legend(loc="upper left", frameon=False, fontsize=8.5)
    for axes in (upper, lower):
        axes.xaxis.label.set_size(9)
        axes.yaxis.label.set_size(9)
    return figure
