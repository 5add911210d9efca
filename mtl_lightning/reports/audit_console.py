"""The audit on one screen of a terminal."""

from collections.abc import Iterator

import numpy as np
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.audit.images import ImageSurvey
from mtl_lightning.audit.label_checks import ClassCounts
from mtl_lightning.audit.report import Report
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.reports.console import merged_table
from mtl_lightning.system.errors import one_line

MOST_CLASSES, FREQUENT = 12, 8
"""Number of classes of a task to list, and how many of them are the most frequent."""
MOST_TASKS = 8
"""Number of tasks up to which pairs are listed; more would fill a screen and are on the page."""
MOST_PLACES = 3
STYLES = {Level.ERROR: "bold red", Level.WARNING: "yellow", Level.NOTE: "cyan"}


def parts(report: Report) -> Iterator[RenderableType]:
    """Yield the parts to print; findings come last, where they are seen."""
    if report.counts is not None:
        yield merged_table(report.counts)
        yield from _inputs(report)
        yield from _classes(report)
        yield from _targets(report)
        if report.encoded:
            yield from _absences(report)
        yield from _pairs(report)
        if report.images is not None:
            yield _heading("images")
            yield _indented(Text(_image_lines(report, report.images)), 2)
    yield from _findings(report)


def _inputs(report: Report) -> Iterator[RenderableType]:
    if not report.missing_inputs or report.table is None:
        return
    yield _heading("inputs, with their missing cells")
    table = _table("", "kind", *SPLITS)
    totals = [int(report.table.in_split(split).sum()) for split in SPLITS]
    for name, counts in report.missing_inputs.items():
        kind = type(report.data.inputs[name]).__name__
        cells = [
            f"{count:,} of {total:,}" if count else "-"
            for count, total in zip(counts.tolist(), totals, strict=True)
        ]
        table.add_row(one_line(name), kind, *cells)
    yield table


def _targets(report: Report) -> Iterator[RenderableType]:
    for name, survey in report.targets.items():
        yield Text(f"  {name}  pixels of {survey.read:,} of {survey.total:,} files")
        yield _indented(Text(", ".join(map(one_line, survey.summary))), 4)


def _classes(report: Report) -> Iterator[RenderableType]:
    if not report.class_counts and not report.numbers:
        return
    # The previous table ends with an empty line.
    yield Text("classes, with their labels in train/val/test", style="italic")
    for name in report.encoded:
        if name in report.class_counts:
            yield Text(f"  {name}")
            words = [Text(word) for word in class_words(report.class_counts[name])]
            yield _indented(Columns(words, padding=(0, 3), equal=True), 4)
        for column, values in report.numbers_of(name).items():
            yield Text(f"  {column}  {numbers_line(values)}")


def class_words(counts: ClassCounts) -> list[str]:
    """Return each class with its counts by split, most frequent first."""
    order = sorted(counts, key=lambda c: -int(counts[c].sum()))
    words = [f"{one_line(c)} {'/'.join(map(str, counts[c].tolist()))}" for c in order]
    if len(words) > MOST_CLASSES:
        last = MOST_CLASSES - FREQUENT
        words[FREQUENT:-last] = [f"... {len(words) - MOST_CLASSES:,} more ..."]
    return words


def numbers_line(values: np.ndarray) -> str:
    """Summarise the distribution of numbers in one line."""
    least, median, most = np.percentile(values, (0, 50, 100))
    return (
        f"{least:g} to {most:g}, median {median:g}, "
        f"mean {values.mean():.4g}, standard deviation {values.std():.4g}"
    )


def _absences(report: Report) -> Iterator[RenderableType]:
    size = report.size
    # Views may coincide: with one device, or one batch per step.
    views = {f"batch of {size.batch_size}": "batch"}
    if size.rank > size.batch_size and size.whole > size.rank:
        views[f"{size.rank} of a device"] = "rank"
    if size.whole > size.batch_size:
        views[f"step of {size.whole}"] = "step"
    rows = max(absence.rows for absence in report.absences.values())
    yield _heading(f"chance that a task has no label ({rows:,} training images) in a")
    table = _table("", "labels", *views, "steps without")
    for name, absence in report.absences.items():
        chances = [share(getattr(absence, view)) for view in views.values()]
        without = f"{absence.share * absence.steps:.1f} of {absence.steps:,}"
        table.add_row(name, f"{absence.labelled:,}", *chances, without)
    yield table


def share(value: float) -> str:
    """Return a probability as text for a table."""
    if value == 0:
        return "0 %"
    return "< 0.01 %" if value < 1e-4 else f"{100 * value:.2f} %"


def _pairs(report: Report) -> Iterator[RenderableType]:
    names = list(report.data.tasks)
    if len(names) < 2 or len(names) > MOST_TASKS:
        return
    yield _heading("training images with labels of both")
    table = _table("", *names)
    for row, name in enumerate(names):
        cells = [f"{n:,}" if n else "-" for n in report.pair_counts[row, : row + 1].tolist()]
        table.add_row(name, *cells)
    yield table


def _heading(text: str) -> RenderableType:
    return Text(f"\n{text}", style="italic")


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 1))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    return table


def _image_lines(report: Report, survey: ImageSurvey) -> str:
    lines = []
    if len(survey.rows):
        small, large = (survey.sizes[i] for i in survey.extremes())
        middle = np.median(survey.sizes, axis=0).astype(int)
        height, width = report.data.size
        lines.append(
            f"sizes (height x width): {_times(small)} to {_times(large)}, median {_times(middle)}; "
            f"{share(survey.upscaled((height, width)))} are smaller than {height} x {width}"
        )
    lines.append(
        f"decoded {survey.decoded:,} of {survey.total:,} images, "
        f"{len(survey.unreadable):,} cannot be read; "
        f"{len(report.copies):,} images are there under several names"
    )
    return "\n".join(lines)


def _times(size: np.ndarray) -> str:
    return f"{size[0]} x {size[1]}"


def _findings(report: Report) -> Iterator[RenderableType]:
    yield ""
    for finding in report.findings:
        yield _finding(finding)
    words = {Level.ERROR: "errors", Level.WARNING: "warnings", Level.NOTE: "notes"}
    counts = [
        f"{n:,} {word.removesuffix('s') if n == 1 else word}"
        for level, word in words.items()
        if (n := report.count(level))
    ]
    yield f"[bold]{escape(report.name)}: {', '.join(counts) or 'nothing to complain about'}[/]"


def _finding(finding: Finding) -> RenderableType:
    head = Text.assemble(
        (f"{finding.level.name.lower()}: ", STYLES[finding.level]), one_line(finding.what)
    )
    below = [one_line(place) for place in finding.where[:MOST_PLACES]]
    if len(finding.where) > MOST_PLACES:
        below.append(f"and {len(finding.where) - MOST_PLACES:,} more (--output lists them)")
    if finding.fix:
        below.append(one_line(f"-> {finding.fix}"))
    return Group(head, _indented(Text("\n".join(below)), 4)) if below else head


def _indented(part: RenderableType, by: int) -> Padding:
    return Padding(part, (0, 0, 0, by), expand=False)
