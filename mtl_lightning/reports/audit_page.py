"""The report as one HTML file that needs nothing else: styles and images are in it."""

import base64
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mtl_lightning._version import __version__
from mtl_lightning.audit.contents import shown
from mtl_lightning.audit.findings import Finding
from mtl_lightning.audit.label_checks import Tally
from mtl_lightning.audit.pictures import Pictures, thumbnail
from mtl_lightning.audit.report import Report, label_text, samples
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.reports.audit_console import numbers_line, share
from mtl_lightning.reports.html import (
    Child,
    Html,
    histogram,
    joined,
    node,
    table,
)
from mtl_lightning.runs.facts import MergedCounts
from mtl_lightning.system.files import atomic_write

SIDE = 112
"""Pixels of a thumbnail."""
SAMPLES = 24
"""Images of a task."""
COPIES = 40
"""Copies that are shown as pictures."""
PLACES = 10_000
"""Places of one finding that are listed; of more the page would only get slow."""
OPEN = 5
BINS = 30
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write(report: Report, path: Path) -> None:
    """Write the page; a file that is there is replaced."""
    with atomic_write(path) as file:
        file.write(page(report))


def page(report: Report) -> str:
    """Return the page."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    head = node(
        "head",
        node("meta", charset="utf-8"),
        # Whatever a label holds, a browser that reads this line runs and loads nothing.
        node("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("title", f"{report.name}: data audit"),
        node("style", Html(style)),
    )
    body = node("body", *_sections(report))
    return f"<!DOCTYPE html>\n{node('html', head, body, lang='en')}\n"


def _sections(report: Report) -> Iterator[Html]:
    yield node("h1", f"{report.name}: data audit")
    counts = f"{len(report.data.sources)} sources, {len(report.data.tasks)} tasks"
    images = "" if report.table is None else f"{len(report.table):,} images, "
    yield node("p", f"{images}{counts}; mtl-lightning {__version__}", class_="faint")
    yield node("h2", "Findings")
    yield from map(_finding, report.findings)
    if not report.findings:
        yield node("p", "Nothing to complain about.")
    if report.counts is None:
        return
    yield from _labels(report.counts)
    yield from _classes(report)
    yield from _together(report)
    yield from _absences(report)
    if report.pictures is not None:
        yield from _pictures(report, report.pictures)
    yield from _copies(report)
    yield from _samples(report)


def _finding(finding: Finding) -> Html:
    level = finding.level.name.lower()
    parts: list[Html] = [node("b", level), node("span", finding.what)]
    if finding.mend:
        parts.append(node("p", f"→ {finding.mend}"))
    places = [node("li", place) for place in finding.where[:PLACES]]
    if len(finding.where) > PLACES:
        places.append(node("li", f"and {len(finding.where) - PLACES:,} more"))
    if places:
        few = "" if len(finding.where) <= OPEN else None
        summary = node("summary", f"{len(finding.where):,} in all")
        parts.append(node("details", summary, node("ul", *places), open=few))
    return node("div", *parts, class_=f"finding {level}")


def _labels(counts: MergedCounts) -> Iterator[Html]:
    rows: list[list[Child]] = [
        [name, task, *(of_task[split] for split in SPLITS)]
        for name, own in [*counts.sources.items(), ("all", counts.total)]
        for task, of_task in [*own.labelled.items(), ("images", own.images)]
    ]
    yield node("h2", "Labelled images")
    yield table(["source", "task", *SPLITS], [_counted(row) for row in rows], numbers_from=2)


def _counted(row: list[Child]) -> list[Child]:
    return [(f"{cell:,}" if cell else "-") if isinstance(cell, int) else cell for cell in row]


def _classes(report: Report) -> Iterator[Html]:
    yield node("h2", "Classes")
    key = [joined(node("i", class_=split), split) for split in SPLITS]
    if report.tallies:
        yield node("p", *key, class_="key faint")
    for name in report.encoded:
        if name in report.tallies:
            counts = report.tallies[name]
            yield node("h3", f"{name}: {len(counts):,} classes")
            yield table(["class", *SPLITS, ""], _class_rows(counts))
        elif name in report.numbers:
            values = report.numbers[name]
            yield node("h3", name)
            yield node("p", numbers_line(values))
            yield _distribution(values, f"how often which {name} occurs")


def _class_rows(counts: Tally) -> list[list[Child]]:
    most = max(max(int(n.sum()) for n in counts.values()), 1)
    rows: list[list[Child]] = []
    for name, of_split in sorted(counts.items(), key=lambda item: -int(item[1].sum())):
        parts = [
            node("i", class_=split, style=f"width:{100 * int(n) / most:.2f}%")
            for split, n in zip(SPLITS, of_split, strict=True)
        ]
        rows.append([name, *(f"{int(n):,}" for n in of_split), node("div", *parts, class_="bar")])
    return rows


def _distribution(values: np.ndarray, title: str) -> Html:
    least, most = float(values.min()), float(values.max())
    if least == most:
        return node("p", f"All are {least:g}.")
    if (values == values.round()).all():
        width = int(np.ceil((most - least + 1) / BINS))
        edges = np.arange(least, most + 1 + width, width)
        names = [f"{low:g}" if width == 1 else f"{low:g} to {low + width - 1:g}" for low in edges]
    else:
        edges = np.linspace(least, most, BINS + 1)
        names = [f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges)]
    counts, _ = np.histogram(values, edges)
    return histogram(counts.tolist(), names[: len(counts)], title)


def _together(report: Report) -> Iterator[Html]:
    names = list(report.data.tasks)
    if len(names) > 1:
        yield node("h2", "Training images with labels of two tasks")
        rows = [_counted([name, *report.together[i].tolist()]) for i, name in enumerate(names)]
        yield table(["", *names], rows)


def _absences(report: Report) -> Iterator[Html]:
    if not report.absences:
        return
    size = report.size
    yield node("h2", "Chance to have no label of a task")
    yield node(
        "p",
        f"Exact, for a random order of the training images; batch size {size.batch_size}, "
        f"devices {size.world_size}, batches accumulated {size.accumulate}.",
        class_="faint",
    )
    head = [
        "task",
        "training labels",
        f"a batch of {size.batch_size}",
        f"a device, {size.rank} a step",
        f"a step of {size.whole}",
        "steps without, an epoch",
    ]
    rows: list[list[Child]] = [
        [
            name,
            f"{absence.labelled:,} of {absence.rows:,}",
            *map(share, (absence.batch, absence.rank, absence.step)),
            f"{absence.share * absence.steps:.1f} of {absence.steps:,}",
        ]
        for name, absence in report.absences.items()
    ]
    yield table(head, rows)


def _pictures(report: Report, pictures: Pictures) -> Iterator[Html]:
    yield node("h2", "Images")
    yield node(
        "p",
        f"{pictures.decoded:,} of {pictures.total:,} were decoded, "
        f"{len(pictures.unreadable):,} of them cannot be read.",
    )
    if not len(pictures.rows):
        return
    height, width = report.data.size
    yield node(
        "p",
        f"Of {len(pictures.rows):,} the size was read; {pictures.upscaled((height, width)):.1%} "
        f"would be enlarged to {height} x {width}.",
    )
    middle = np.median(pictures.sizes, axis=0).astype(int).tolist()
    rows: list[list[Child]] = [["median", *middle, ""]]
    for name, i in zip(("smallest", "largest"), pictures.extremes(), strict=True):
        where = shown(report.data.labels.table.images[pictures.rows[i]])
        rows.append([name, *pictures.sizes[i].tolist(), where])
    yield table(["", "height", "width", "image"], rows, numbers_from=1)
    yield node("h3", "Shorter side, pixels")
    yield _distribution(pictures.sizes.min(axis=1), "how often which shorter side occurs")


def _copies(report: Report) -> Iterator[Html]:
    if not report.copies:
        return
    merged = report.data.labels.table
    # Those that matter most: in two splits, then with two labels.
    order = sorted(report.copies, key=lambda c: (-len(set(c.splits)), -len(c.labels)))
    yield node("h2", "Copies")
    yield node("p", f"{len(order):,} images are there under several names.")
    for copies in order[:COPIES]:
        figures = []
        for row, split in zip(copies.rows[:OPEN], copies.splits, strict=False):
            said = [f"{t}: {c[row]}" for t, c in merged.cells.items() if c[row] is not None]
            figures.append(_figure(report, row, [split, *said, shown(merged.images[row])]))
        yield node("div", *figures, class_="copies")
    if len(order) > COPIES:
        yield node("p", f"and {len(order) - COPIES:,} more", class_="faint")


def _samples(report: Report) -> Iterator[Html]:
    yield node("h2", "Samples")
    for name, rows in samples(report, SAMPLES, seed=0).items():
        yield node("h3", name)
        figures = [
            _figure(report, row, [label_text(report.data.labels, name, row)]) for row in rows
        ]
        yield node("div", *figures, class_="sheet")


def _figure(report: Report, row: int, lines: Sequence[str]) -> Html:
    image = thumbnail(report.data.labels.table, row, SIDE)
    if image is None:
        shown = node("p", "cannot be read", class_="error")
    else:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
        text = base64.b64encode(buffer.getvalue()).decode("ascii")
        shown = node(
            "img",
            src=f"data:image/jpeg;base64,{text}",
            width=image.width,
            height=image.height,
            alt=lines[0],
        )
    caption = [node("div", line) for line in lines]
    return node("figure", shown, node("figcaption", *caption))
