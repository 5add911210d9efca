"""Tables"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from mtl_lightning import Classification, PartialLabels, TableSource
from tests.bad_inputs import Case


def table(content: str | bytes, name: str = "t.csv") -> Callable[[], None]:
    """Write a table beside four images; its rows may name a.jpg to d.jpg."""

    def make() -> None:
        for image in "abcd":
            Path(f"{image}.jpg").touch()
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def labels(name: str = "t.csv") -> str:
    """Read a table as `fit` does before it trains; say the labels of the task ``type``."""
    data = PartialLabels({"type": Classification(["x", "y"])}, {"t": TableSource(name)}, {})
    data.setup("fit")
    return " ".join(f"{cell or '-'}" for cell in data.merged().cells["type"])


CASES = [
    Case(
        "an empty file",
        table(""),
        labels,
        r"error: data.sources.t: t.csv is empty; expected columns and rows",
    ),
    Case(
        "a header only",
        table("image,type\n"),
        labels,
        r"error: data.sources.t: t.csv has no rows; expected at least one below the header",
    ),
    Case(
        "Windows line ends and a UTF-8 byte-order mark",
        table(b"\xef\xbb\xbfimage,type\r\na.jpg,x\r\nb.jpg,y\r\n"),
        labels,
        "handled: x y",
    ),
    Case(
        "a class that the task does not know",
        table("image,type\na.jpg,x\nb.jpg,z\n"),
        labels,
        'error: t.csv row 3, column "type": task type cannot read the label "z"; '
        "expected one of the classes x, y",
    ),
    Case(
        "a Parquet file that is none",
        table("image,type\n", "t.parquet"),
        partial(labels, "t.parquet"),
        "error: data.sources.t: t.parquet cannot be read as parquet: .*",
    ),
]
