"""Pages from the templates of ``templates/``, in which every value is escaped.

The script of an interactive page, ``templates/page.js``, is our own: 3 kB to sort and filter tables
and to name what is pointed at in a figure. Vega-Lite or plotly's basic bundle are about 1 MB in
each page, several times the rest of it; neither sorts or filters a table, and Vega compiles
expressions at run time, which a strict Content-Security-Policy forbids. Figures are those that a
run draws anyway, so that the page, the folder and TensorBoard show the same. Without the script
everything is still there to be read. The policy names the script by its hash, so that a browser
runs no other, whatever a value holds.
"""

import base64
import hashlib
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from mtl_lightning.system.errors import one_line

BINS = 30
"""Number of bars of a histogram of numbers that are not all integers."""


def render(template: str, **values: Any) -> str:
    """Render a page.

    Args:
        template: The name of the template's file.
        values: The values that the template shows.
    """
    return _environment().get_template(template).render(values)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mtl_lightning.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["thousands"] = "{:,}".format
    environment.globals["hash_of"] = lambda name: _hash(environment, name)
    return environment


def _hash(environment: Environment, name: str) -> str:
    """Return the hash of a script for a Content-Security-Policy."""
    digest = hashlib.sha256(environment.get_template(name).render().encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _printable(value: Any) -> Any:
    # Control characters are not valid HTML, and a file name may not be valid Unicode.
    return value if hasattr(value, "__html__") else one_line(str(value))


@dataclass(frozen=True)
class Histogram:
    """The bars of a histogram.

    Attributes:
        title: A description of the picture, for those who cannot see it.
        counts: The heights of the bars; empty if all values are the same.
        names: The name of each bar, or the one value.
    """

    title: str
    counts: Sequence[int]
    names: Sequence[str]

    @classmethod
    def of(cls, values: np.ndarray, title: str) -> "Histogram":
        """Count numbers: one bar for each integer, or for as many consecutive ones as necessary.

        Args:
            values: The numbers, at least one.
            title: A description of the picture.
        """
        least, most = float(values.min()), float(values.max())
        if least == most:
            return cls(title, [], [f"{least:g}"])
        if (values == values.round()).all():
            width = int(np.ceil((most - least + 1) / BINS))
            edges = np.arange(least, most + 1 + width, width)
            names = [f"{n:g}" if width == 1 else f"{n:g} to {n + width - 1:g}" for n in edges]
        else:
            edges = np.linspace(least, most, BINS + 1)
            names = [f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges)]
        counts, _ = np.histogram(values, edges)
        return cls(title, counts.tolist(), names[: len(counts)])


@dataclass(frozen=True)
class Thumbnail:
    """A small image with text below.

    Attributes:
        source: The image as a data URL, ``""`` if it cannot be read.
        width: In pixels.
        height: In pixels.
        lines: The text below it, at least one line.
    """

    source: str
    width: int
    height: int
    lines: Sequence[str]

    @classmethod
    def of(cls, image: Image.Image | None, lines: Sequence[str]) -> "Thumbnail":
        """Encode an image, or ``None`` if it cannot be read."""
        if image is None:
            return cls("", 0, 0, lines)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
        text = base64.b64encode(buffer.getvalue()).decode("ascii")
        return cls(f"data:image/jpeg;base64,{text}", image.width, image.height, lines)
