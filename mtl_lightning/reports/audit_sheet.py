"""The samples of each task with their labels, as one PNG."""

from pathlib import Path

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

from mtl_lightning.audit.images import thumbnail
from mtl_lightning.audit.report import Report, label_text, samples
from mtl_lightning.reports.plots.canvas import shortened
from mtl_lightning.system.files import atomic_path

SIDE, GAP, LINE = 128, 10, 18
"""Pixels of a thumbnail, of the gap between two, and of a line of text."""
ACROSS, DOWN = 8, 3
"""Number of thumbnails per task."""
_CHARACTERS = 19
"""Lines of text below a thumbnail."""
_INK, _FAINT = "#1b1f24", "#5c6570"


def write(report: Report, path: Path) -> None:
    """Write the sheet, replacing an existing file."""
    with atomic_path(path) as part:
        draw(report).save(part, "PNG")


def draw(report: Report) -> Image.Image:
    """Draw the sheet: a band for each task."""
    chosen = samples(report, ACROSS * DOWN, seed=0)
    cell = SIDE + LINE + GAP
    bands = [2 * LINE + cell * -(-len(rows) // ACROSS) for rows in chosen.values()]
    width = GAP + ACROSS * (SIDE + GAP)
    sheet = Image.new("RGB", (width, GAP + sum(bands) if bands else 4 * LINE), "white")
    pen = ImageDraw.Draw(sheet)
    top = GAP
    for (name, rows), band in zip(chosen.items(), bands, strict=True):
        pen.text((GAP, top), shortened(name, width // 10), _INK, _font("DejaVuSans-Bold.ttf", 15))
        for number, row in enumerate(rows):
            left = GAP + number % ACROSS * (SIDE + GAP)
            _place(report, sheet, (left, top + LINE + 8 + number // ACROSS * cell), name, row)
        top += band
    if not chosen:
        pen.text((GAP, GAP), "no task has labels that can be read", _FAINT, _font())
    return sheet


def _place(
    report: Report, sheet: Image.Image, corner: tuple[int, int], task: str, row: int
) -> None:
    """Draw one image with its label below."""
    left, top = corner
    pen = ImageDraw.Draw(sheet)
    image = thumbnail(report.data.labels.table, row, SIDE)
    if image is None:
        pen.rectangle((left, top, left + SIDE, top + SIDE), outline=_FAINT)
        pen.text((left + 8, top + SIDE // 2), "cannot be read", _FAINT, _font())
    else:
        sheet.paste(image, (left + (SIDE - image.width) // 2, top + SIDE - image.height))
    label = shortened(label_text(report.data.labels, task, row), _CHARACTERS)
    pen.text((left, top + SIDE + 2), label, _INK, _font())


def _font(name: str = "DejaVuSans.ttf", size: int = 12) -> ImageFont.FreeTypeFont:
    """Return a font of matplotlib, which covers more scripts than Pillow's own."""
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts/ttf" / name), size)
