"""The audit as one self-contained HTML file, with styles and images in it."""

from pathlib import Path

import numpy as np

from mtl_lightning._version import __version__
from mtl_lightning.audit.copies import Copies, display_path
from mtl_lightning.audit.images import thumbnail
from mtl_lightning.audit.label_checks import ClassCounts
from mtl_lightning.audit.report import Report, label_text, samples
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.reports.audit_console import numbers_line, share
from mtl_lightning.reports.html import Histogram, Thumbnail, render
from mtl_lightning.runs.facts import MergedCounts
from mtl_lightning.system.files import atomic_write

SIDE = 112
"""Side of a thumbnail in pixels."""
SAMPLES = 24
"""Number of sample images per task."""
COPIES = 40
"""Number of copies shown as pictures."""
PLACES = 10_000
"""Number of places listed per finding; more would only make the page slow."""
OPEN = 5
"""Number of places, or copies of one image, that are shown unfolded."""


def write(report: Report, path: Path) -> None:
    """Write the page, replacing an existing file."""
    with atomic_write(path) as file:
        file.write(page(report))


def page(report: Report) -> str:
    """Return the page."""
    return render(
        "audit_page.html.j2",
        report=report,
        version=__version__,
        splits=SPLITS,
        open_places=OPEN,
        most_places=PLACES,
        label_rows=[] if report.counts is None else _label_rows(report.counts),
        input_rows=_input_rows(report),
        pair_rows=_pair_rows(report),
        absence_rows=_absence_rows(report),
        size_rows=_size_rows(report),
        copies=[_copies(report, copies) for copies in _worst_copies(report)],
        samples=_samples(report),
        by_frequency=_by_frequency,
        most_labels=_most_labels,
        numbers_line=numbers_line,
        spread=Histogram.of,
    )


def _label_rows(counts: MergedCounts) -> list[list[str]]:
    return [
        [name, task, *(_count(of_task[split]) for split in SPLITS)]
        for name, own in [*counts.sources.items(), ("all", counts.total)]
        for task, of_task in [*own.labelled.items(), ("images", own.images)]
    ]


def _input_rows(report: Report) -> list[list[str]]:
    return [
        [name, type(report.data.inputs[name]).__name__, *map(_count, counts.tolist())]
        for name, counts in report.missing_inputs.items()
    ]


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def _by_frequency(counts: ClassCounts) -> list[tuple[str, list[int]]]:
    order = sorted(counts.items(), key=lambda item: -int(item[1].sum()))
    return [(name, by_split.tolist()) for name, by_split in order]


def _most_labels(counts: ClassCounts) -> int:
    return max(1, *(int(by_split.sum()) for by_split in counts.values()))


def _pair_rows(report: Report) -> list[list[str]]:
    return [
        [name, *map(_count, row.tolist())]
        for name, row in zip(report.data.tasks, report.pair_counts, strict=False)
    ]


def _absence_rows(report: Report) -> list[list[str]]:
    return [
        [
            name,
            f"{absence.labelled:,} of {absence.rows:,}",
            *map(share, (absence.batch, absence.rank, absence.step)),
            f"{absence.share * absence.steps:.1f} of {absence.steps:,}",
        ]
        for name, absence in report.absences.items()
    ]


def _size_rows(report: Report) -> list[list[str | int]]:
    survey = report.images
    if survey is None or not len(survey.rows):
        return []
    middle = np.median(survey.sizes, axis=0).astype(int).tolist()
    rows: list[list[str | int]] = [["median", *middle, ""]]
    for name, i in zip(("smallest", "largest"), survey.extremes(), strict=True):
        where = display_path(report.data.labels.table.images[survey.rows[i]])
        rows.append([name, *survey.sizes[i].tolist(), where])
    return rows


def _worst_copies(report: Report) -> list[Copies]:
    """Return the most important copies: in two splits first, then with two labels."""
    order = sorted(report.copies, key=lambda c: (-len(set(c.splits)), -len(c.labels)))
    return order[:COPIES]


def _copies(report: Report, copies: Copies) -> list[Thumbnail]:
    merged = report.data.labels.table
    thumbnails = []
    for row, split in zip(copies.rows[:OPEN], copies.splits, strict=False):
        labels = [f"{t}: {c[row]}" for t, c in merged.cells.items() if c[row] is not None]
        lines = [split, *labels, display_path(merged.images[row])]
        thumbnails.append(_thumbnail(report, row, lines))
    return thumbnails


def _samples(report: Report) -> dict[str, list[Thumbnail]]:
    return {
        task: [_thumbnail(report, row, [label_text(report.data.labels, task, row)]) for row in rows]
        for task, rows in samples(report, SAMPLES, seed=0).items()
    }


def _thumbnail(report: Report, row: int, lines: list[str]) -> Thumbnail:
    return Thumbnail.of(thumbnail(report.data.labels.table, row, SIDE), lines)
