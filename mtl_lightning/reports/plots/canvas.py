"""What all figures share: a canvas without pyplot, a heading, and a colour-blind safe palette."""

import textwrap
import warnings
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

DPI = 120
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.45"  # colour-blind safe (Okabe and Ito 2008)
EDGE = 0.12  # inches between a heading and the edge of the figure
SPOT = 6  # pixels from the middle of a named point to each side
CHARACTERS_PER_INCH = 15  # of the small print


def new_figure(width: float, height: float, title: str, subtitle: str = "") -> Figure:
    """Return an empty figure under a heading.

    It belongs to no window and no list of open figures (unlike pyplot's): it is freed with its last
    reference, and may be made in any thread.

    Args:
        width: Inches.
        height: Inches, without the heading.
        title: One line; shortened if it is too long.
        subtitle: Small print, broken at ``·`` into as many lines as necessary.
    """
    parts = [part.replace(" ", "\N{NO-BREAK SPACE}") for part in subtitle.split(" · ")]
    wrapped = textwrap.wrap(" · ".join(parts), int(width * CHARACTERS_PER_INCH))
    lines = [line.strip(" ·").replace("\N{NO-BREAK SPACE}", " ") for line in wrapped]
    strip = 0.42 + 0.16 * len(lines)
    whole = height + strip
    figure = Figure(figsize=(width, whole), dpi=DPI, layout="constrained", facecolor="white")
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, 0, 1, height / whole))  # type: ignore[call-arg]  # of this kind of engine
    left, top = EDGE / width, 1 - EDGE / whole
    bold = shortened(title, int(width * 9))
    figure.text(left, top, plain(bold), va="top", size=12, weight="bold")
    small = plain("\n".join(lines))
    figure.text(left, top - 0.23 / whole, small, va="top", size=8.5, color=GREY, linespacing=1.25)
    return figure


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """Draw the figure: ``(H, W, 3)`` uint8, RGB."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes, which cannot be helped.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        canvas.draw()  # type: ignore[no-untyped-call]
    rgba: NDArray[np.uint8] = np.array(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return rgba[..., :3]


@dataclass(frozen=True)
class Spot:
    """A part of a drawn figure that has a name, in pixels from the upper left corner."""

    left: int
    top: int
    width: int
    height: int
    text: str


def name_spot(
    axes: Axes, corner: tuple[float, float], text: str, width: float = 0.0, height: float = 0.0
) -> None:
    """Name a rectangle, or a point, of a figure for those who point at it. It stays as it looks.

    Args:
        axes: Where it is.
        corner: One of its corners, in the units of the axes.
        text: The name.
        width: To the right of the corner.
        height: Above the corner.
    """
    axes.add_artist(Rectangle(corner, width, height, gid=text, visible=False))


def spots(figure: Figure) -> list[Spot]:
    """Return the named parts of a figure that has been drawn."""
    found = []
    height = figure.bbox.height
    for part in figure.findobj(Rectangle):
        assert isinstance(part, Rectangle)
        text, axes = part.get_gid(), part.axes
        if text is None or axes is None:
            continue
        x, y = part.get_xy()
        ends = [(x, y), (x + part.get_width(), y + part.get_height())]
        first, last = axes.transData.transform(ends)
        middle, half = (first + last) / 2, np.maximum(np.abs(last - first) / 2, SPOT)
        inside = np.clip(middle, axes.bbox.min, axes.bbox.max)  # a point may be beyond the axes
        left, top = inside[0] - half[0], height - inside[1] - half[1]
        across, down = (2 * half).tolist()
        found.append(Spot(round(left), round(top), round(across), round(down), text))
    return found


def plain(text: str) -> str:
    """Escape text so that matplotlib draws it literally (``$`` would start a formula)."""
    return text.replace("$", r"\$")


def shortened(text: str, limit: int) -> str:
    """Cut the middle out of a long name, since names often differ at their ends."""
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def tidy(axes: Axes) -> None:
    """Reduce frame and grid to what helps to read values."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("0.6")
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, color="0.6")


def note(axes: Axes, text: str) -> None:
    """Write into the middle of empty axes why they are empty."""
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", size=9, color=GREY
    )
