"""Drawing a task's record: one function, dispatched on the class of the record.

A new kind of record registers its drawing in the module that defines it::

    @draw.register
    def _(record: Quantiles, title: str, subtitle: str) -> Figure: ...
"""

import math
from collections.abc import Iterable, Mapping
from functools import singledispatch

from matplotlib.figure import Figure

from mtl_lightning.reports.plots.confusion import confusion
from mtl_lightning.reports.plots.labels import labels_chart
from mtl_lightning.reports.plots.maps import maps
from mtl_lightning.reports.plots.reliability import reliability
from mtl_lightning.reports.plots.scatter import scatter
from mtl_lightning.reports.plots.scatters import scatters
from mtl_lightning.runs.facts import Evaluation
from mtl_lightning.tasks.map_examples import MapExamples
from mtl_lightning.tasks.plot_records import (
    ConfusionCounts,
    LabelCurves,
    PlotRecord,
    ScatterSample,
    ScatterSamples,
)
from mtl_lightning.tasks.reliability import ReliabilityBins

MOST = 24
"""Number of tasks that are drawn: each takes a fifth of a second, and has its data in run.json."""


def lowest(tasks: Iterable[str], scores: Mapping[str, float]) -> list[str]:
    """Return the tasks with the lowest scores, at most `MOST`, in the order of the tasks."""
    tasks = list(tasks)
    worst = set(sorted(tasks, key=lambda task: scores.get(task, math.inf))[:MOST])
    return [task for task in tasks if task in worst]


def draw_task(evaluation: Evaluation, task: str) -> Figure:
    """Return the figure of one task: its record under a heading with its metrics."""
    split, values = evaluation.results.split, evaluation.results.tasks[task]
    caption = f"{split}, weights of {evaluation.weights}" if evaluation.weights else split
    if evaluation.step is not None:
        caption = f"{split} at the last validation, after {evaluation.step:,} steps"
    numbers = [
        f"{metric.replace('_', ' ')} {value:.3g}"
        for metric, value in values.items()
        if metric not in ("n_labelled", "loss") and "/" not in metric  # of one label
    ]
    labelled = f"{values['n_labelled']:,} labelled"
    return draw(evaluation.plots[task], task, " · ".join([caption, labelled, *numbers]))


@singledispatch
def draw(record: PlotRecord, title: str, subtitle: str) -> Figure:
    """Return the figure of a record.

    Args:
        record: The data collected for one task over one split.
        title: The heading.
        subtitle: Small print below it, in parts separated by `` · ``.

    Raises:
        TypeError: If no drawing is registered for the record's class.
    """
    del title, subtitle
    raise TypeError(
        f"{type(record).__name__} has no drawing; register one with "
        f"mtl_lightning.reports.plots.draw.register"
    )


@draw.register
def _confusion(record: ConfusionCounts, title: str, subtitle: str) -> Figure:
    return confusion(record.counts, record.classes, title, subtitle)


@draw.register
def _labels(record: LabelCurves, title: str, subtitle: str) -> Figure:
    precision, outcomes = record.average_precision(), record.outcomes()
    return labels_chart(record.labels, precision, outcomes, title, subtitle)


@draw.register
def _scatter(record: ScatterSample, title: str, subtitle: str) -> Figure:
    count = len(record.labels)
    if count < record.n_labelled:
        subtitle += f" · {count:,} of {record.n_labelled:,} drawn, a random sample"
    ends = None if record.low is None or record.high is None else (record.low, record.high)
    return scatter(record.predictions, record.labels, title, subtitle, ends, record.log)


@draw.register
def _scatters(record: ScatterSamples, title: str, subtitle: str) -> Figure:
    count = len(record.labels)
    if count < record.n_labelled:
        subtitle += f" · {count:,} of {record.n_labelled:,} images drawn, a random sample"
    return scatters(record.outputs, record.predictions, record.labels, title, subtitle, record.log)


@draw.register
def _reliability(record: ReliabilityBins, title: str, subtitle: str) -> Figure:
    return reliability(record, title, subtitle)


@draw.register
def _maps(record: MapExamples, title: str, subtitle: str) -> Figure:
    return maps(record, title, subtitle)
