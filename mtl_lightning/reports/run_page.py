"""A run as one self-contained HTML file: data, course of the training, results of each task."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mtl_lightning._version import __version__
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.reports.html import render
from mtl_lightning.reports.plots.canvas import Spot, pixels, spots
from mtl_lightning.reports.plots.curves import curves
from mtl_lightning.reports.plots.drawing import draw, draw_task, lowest
from mtl_lightning.runs.facts import (
    FEW_LABELS,
    ColumnImportance,
    Evaluation,
    Example,
    RunFacts,
    SliceResults,
)
from mtl_lightning.system.files import atomic_write
from mtl_lightning.tasks.plot_records import ConfusionCounts, LabelCurves, UnknownRecord
from mtl_lightning.tasks.reliability import ReliabilityBins

EVALUATED = ("test", "val")
"""The splits in the order in which a reader looks for them."""

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        source: A PNG file as a data URL.
        width: In pixels.
        height: In pixels.
        text: A description, for those who cannot see it.
        spots: Its parts that have a name.
    """

    source: str
    width: int
    height: int
    text: str
    spots: Sequence[Spot]

    @classmethod
    def of(cls, figure: Figure, text: str) -> "Picture":
        """Draw a figure in 128 colours, which are enough and take a third of the bytes."""
        image, buffer = Image.fromarray(pixels(figure)), io.BytesIO()
        image.quantize(128, dither=Image.Dither.NONE).save(buffer, "PNG")
        encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
        source = f"data:image/png;base64,{encoded}"
        return cls(source, image.width, image.height, text, spots(figure))


@dataclass(frozen=True)
class TaskSection:
    """The part of the page about one task over one split.

    Attributes:
        name: The task.
        picture: Its plot; None if it has none, or is not among those that are drawn.
        metrics: The name of each metric and its value; with another run also its value and the
            difference.
        classes_head: The columns of `classes`.
        classes: A row for each class or label; empty if the task has none.
        columns: A row for each column that the network reads, the most important first; empty if
            this was not measured.
        reliability: Its reliability diagram; None if it is not calibrated, or is not drawn.
        slices: Its results by source, and by the columns of ``data.slices``.
        examples: Titles to rows with images: the worst mistakes, and the most doubtful answers.
    """

    name: str
    picture: Picture | None
    metrics: Rows
    classes_head: Sequence[str] = ()
    classes: Rows = field(default_factory=list)
    columns: Rows = field(default_factory=list)
    reliability: Picture | None = None
    slices: Sequence["SliceTable"] = ()
    examples: Mapping[str, Sequence[Example]] = field(default_factory=dict)


@dataclass(frozen=True)
class SliceTable:
    """The results of a task by source or by the values of a column.

    Attributes:
        title: What the rows are divided by.
        head: The columns.
        rows: A row for each slice.
        small: Whether any slice has few labels.
    """

    title: str
    head: Sequence[str]
    rows: Rows
    small: bool

    @classmethod
    def of(cls, title: str, results: Sequence[SliceResults]) -> "SliceTable":
        """Return the table of some slices."""
        metrics = list(dict.fromkeys(metric for own in results for metric in own.values))
        metrics.remove("n_labelled")
        rows = [
            [
                own.title,
                f"{own.values['n_labelled']:,.0f}{' (few)' if own.is_small else ''}",
                *(number(own.values.get(metric, math.nan)) for metric in metrics),
            ]
            for own in results
        ]
        head = [title, "labels", *(metric.replace("_", " ") for metric in metrics)]
        return cls(title, head, rows, any(own.is_small for own in results))


def page(facts: RunFacts, config: str, other: RunFacts | None = None) -> str:
    """Return the page.

    Args:
        facts: The facts of the run.
        config: The text of its config.
        other: The facts of a run that it is compared with.
    """
    evaluations = {s: facts.evaluations[s] for s in EVALUATED if s in facts.evaluations}
    others = {} if other is None else other.evaluations
    # Figures take most of the time; those of val after a test are in the run's folder.
    first = next(iter(evaluations), "")
    worst = _drawn(facts, evaluations[first]) if first else lowest(facts.tasks, {})
    return render(
        "run_page.html.j2",
        facts=facts,
        other=other,
        version=__version__,
        few_labels=FEW_LABELS,
        config_lines=config.splitlines(),
        splits=SPLITS,
        summaries={
            split: _summary(facts, own.results.tasks, others.get(split))
            for split, own in evaluations.items()
        },
        label_rows=_label_rows(facts),
        course_rows=_course_rows(facts),
        curves=_curves(facts, worst),
        sections={
            split: _sections(own, worst if split == first else [], others.get(split))
            for split, own in evaluations.items()
        },
        session_rows=_session_rows(facts),
    )


def write_page(path: Path, run: Path, facts: RunFacts, other: RunFacts | None = None) -> None:
    """Write the page, replacing an existing file.

    Args:
        path: The file.
        run: The folder of the run, for its config.
        facts: The facts of the run.
        other: The facts of a run that it is compared with.
    """
    config = run / "config.yaml"
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    content = page(facts, text, other)
    with atomic_write(path) as file:
        file.write(content)


def number(value: float) -> str:
    """Return a metric for a table."""
    return f"{value:.4f}" if math.isfinite(value) else "-"


def _drawn(facts: RunFacts, evaluation: Evaluation) -> list[str]:
    """Return the tasks whose plots are drawn."""
    values = evaluation.results.tasks
    scores = {task: values[task].get(own.primary, math.inf) for task, own in facts.tasks.items()}
    known = [t for t, record in evaluation.plots.items() if not isinstance(record, UnknownRecord)]
    return lowest(known, scores)


def _summary(
    facts: RunFacts, tasks: Mapping[str, Mapping[str, float]], other: Evaluation | None
) -> Rows:
    rows = []
    for task, values in tasks.items():
        primary = facts.tasks[task].primary
        row = [task, primary, number(values.get(primary, math.nan))]
        row += _change(values, other, task, primary)
        rows.append([*row, f"{values['n_labelled']:,.0f}"])
    return rows


def _change(
    values: Mapping[str, float], other: Evaluation | None, task: str, metric: str
) -> list[str]:
    """Return the other run's value and the difference; nothing without another run."""
    if other is None:
        return []
    before = other.results.tasks.get(task, {}).get(metric, math.nan)
    change = values.get(metric, math.nan) - before
    return [number(before), f"{change:+.4f}" if math.isfinite(change) else "-"]


def _label_rows(facts: RunFacts) -> Rows:
    if facts.merged is None:
        return []
    parts = [*facts.merged.sources.items(), ("all", facts.merged.total)]
    return [
        [name, task, *(f"{of_task[split]:,}" for split in SPLITS)]
        for name, own in parts
        for task, of_task in [*own.labelled.items(), ("images", own.images)]
    ]


def _course_rows(facts: RunFacts) -> Rows:
    return [
        [
            task,
            number(own.last),
            f"{number(own.best)} (epoch {own.best_epoch})",
            "-" if own.chosen is None else f"{number(own.chosen)} (epoch {own.chosen_epoch})",
        ]
        for task, own in facts.courses().items()
    ]


def _curves(facts: RunFacts, tasks: Sequence[str]) -> Picture | None:
    if not facts.epochs and not facts.validations:
        return None
    text = "loss and primary metric of each task over the epochs, in training and validation"
    return Picture.of(curves(facts, tasks), text)


def _sections(
    evaluation: Evaluation, drawn: Sequence[str], other: Evaluation | None
) -> list[TaskSection]:
    return [
        replace(
            _section(evaluation, task, drawn, other),
            columns=_column_rows(evaluation.importance.get(task, {})),
            reliability=_reliability(evaluation, task) if task in drawn else None,
            slices=_slices(evaluation, task),
            examples={
                title: found[task]
                for title, found in (
                    ("Worst mistakes", evaluation.mistakes),
                    ("Most doubtful answers", evaluation.doubts),
                )
                if task in found
            },
        )
        for task in evaluation.results.tasks
    ]


def _reliability(evaluation: Evaluation, task: str) -> Picture | None:
    record = evaluation.reliability.get(task)
    if not isinstance(record, ReliabilityBins) or not record.rows.any():
        return None
    values = evaluation.results.tasks[task]
    error, before = (values[f"calibration_error{which}"] for which in ("", "_before"))
    subtitle = f"{evaluation.results.split} · calibration error {error:.3f} · before {before:.3f}"
    figure = draw(record, f"Confidence of {task}", subtitle)
    return Picture.of(figure, f"accuracy of {task} by confidence, calibrated and before")


def _slices(evaluation: Evaluation, task: str) -> list[SliceTable]:
    sources = evaluation.sources.get(task)
    return [
        *([] if sources is None else [SliceTable.of("source", sources)]),
        *(SliceTable.of(c, own) for c, own in evaluation.slices.get(task, {}).items()),
    ]


def _column_rows(columns: Mapping[str, ColumnImportance]) -> Rows:
    """Return a row for each column, the most important first."""
    order = sorted(columns, key=lambda name: -columns[name].mean)
    return [[name, number(columns[name].mean), number(columns[name].deviation)] for name in order]


def _section(
    evaluation: Evaluation, task: str, drawn: Sequence[str], other: Evaluation | None
) -> TaskSection:
    values = evaluation.results.tasks[task]
    metrics = [
        [metric.replace("_", " "), number(value), *_change(values, other, task, metric)]
        for metric, value in values.items()
        if metric != "n_labelled" and "/" not in metric
    ]
    picture = None
    if task in drawn:
        picture = Picture.of(draw_task(evaluation, task), f"plot of {task}")
    record = evaluation.plots.get(task)
    if isinstance(record, ConfusionCounts):
        head = ("class", "labels", "answers", "recall", "precision", "most often taken for")
        return TaskSection(task, picture, metrics, head, _class_rows(record))
    if isinstance(record, LabelCurves):
        head = ("label", "yes", "no", "average precision", "recall", "precision")
        return TaskSection(task, picture, metrics, head, _yes_no_rows(record))
    return TaskSection(task, picture, metrics)


def _class_rows(record: ConfusionCounts) -> Rows:
    """Return a row for each class that occurs, those with the lowest recall first."""
    rows = []
    for i, name in enumerate(record.classes):
        own, answers, hits = record.counts[i], record.counts[:, i], record.counts[i, i]
        if not own.sum() and not answers.sum():
            continue
        wrong = np.where(np.arange(len(own)) == i, 0, own)
        taken = f"{record.classes[wrong.argmax()]} ({wrong.max():,})" if wrong.any() else "-"
        recall = hits / own.sum() if own.sum() else math.nan
        precision = hits / answers.sum() if answers.sum() else math.nan
        counts = f"{own.sum():,}", f"{answers.sum():,}"
        rows.append((recall, [name, *counts, number(recall), number(precision), taken]))
    return [row for _, row in sorted(rows, key=lambda each: (math.isnan(each[0]), each[0]))]


def _yes_no_rows(record: LabelCurves) -> Rows:
    """Return a row for each label, at a threshold of 0.5, the lowest average precision first."""
    rows = []
    precisions = record.average_precision().tolist()
    for name, value, (hits, missed, rest, false) in zip(
        record.labels, precisions, record.outcomes().tolist(), strict=True
    ):
        recall = hits / (hits + missed) if hits + missed else math.nan
        precision = hits / (hits + false) if hits + false else math.nan
        counts = f"{hits + missed:,}", f"{false + rest:,}"
        rows.append((value, [name, *counts, number(value), number(recall), number(precision)]))
    return [row for _, row in sorted(rows, key=lambda each: (math.isnan(each[0]), each[0]))]


def _session_rows(facts: RunFacts) -> Rows:
    return [
        [
            session.command,
            session.started,
            session.outcome or "running, or killed",
            session.device,
            session.precision,
            session.git or "-",
            ", ".join(f"{name} {version}" for name, version in session.versions.items()),
        ]
        for session in facts.sessions
    ]
