"""FashionAI: photographs of clothes, each labelled for one of eight attributes."""

import csv
import glob
import os
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.data.images import suffixes
from mtl_lightning.data.sources.base import Recognised, Source, SourceTable, Texts
from mtl_lightning.data.sources.columns import Columns, Labels
from mtl_lightning.data.sources.locate import Path, relative_keys, texts
from mtl_lightning.data.sources.rooted import rooted
from mtl_lightning.system.errors import (
    UserError,
    did_you_mean,
    listed,
    quoted,
)

ATTRIBUTES = {
    name: classes.split(", ")
    for name, classes in {
        "collar_design_labels": "Invisible, Shirt Collar, Peter Pan, Puritan Collar, Rib Collar",
        "neck_design_labels": "Invisible, Turtle Neck, Ruffle Semi-High Collar, Low Turtle Neck, "
        "Draped Collar",
        "lapel_design_labels": "Invisible, Notched, Collarless, Shawl Collar, Plus Size Shawl",
        "neckline_design_labels": "Invisible, Strapless Neck, Deep V Neckline, Straight Neck, "
        "V Neckline, Square Neckline, Off Shoulder, Round Neckline, Sweat Heart Neck, "
        "One Shoulder Neckline",
        "sleeve_length_labels": "Invisible, Sleeveless, Cup Sleeves, Short Sleeves, Elbow Sleeves, "
        "3/4 Sleeves, Wrist Length, Long Sleeves, Extra Long Sleeves",
        "skirt_length_labels": "Invisible, Short Length, Knee Length, Midi Length, Ankle Length, "
        "Floor Length",
        "pant_length_labels": "Invisible, Short Pant, Mid Length, 3/4 Length, Cropped Pant, "
        "Full Length",
        "coat_length_labels": "Invisible, High Waist Length, Regular Length, Long Length, "
        "Micro Length, Knee Length, Midi Length, Ankle&Floor Length",
    }.items()
}
"""The attributes and their classes, with the names of the competition, in letter order."""

_SUFFIX = "_labels"


class FashionAISource(Source):
    """Label files of Tianchi's FashionAI challenge, "Attributes Recognition of Apparel" (2018).

    They have no header, and rows such as ``Images/neck_design_labels/<hash>.jpg,
    neck_design_labels,nnynn``: a letter for each class of the attribute, ``y`` for the class, ``m``
    for one that may apply. A fourth column is ignored, and so is a header in the first row; an
    empty third column means "not labelled", as in the questions of ``Tests``.

    Zou et al., "FashionAI: A Hierarchical Dataset for Fashion Understanding", CVPRW 2019.

    Args:
        paths: The label files of any number of rounds, globs included, such as
            ``fashionai/*/Annotations/*.csv``.
        root: The folder that the images' paths are relative to; by default, for each file, the
            one above its own: ``base`` for ``base/Annotations/label.csv``.
        labels: Task to attribute; by default the tasks named like an attribute, in full
            (``neck_design_labels``), without its end (``neck_design``) or in short (``neck``).
        maybe: Total share of the target of the classes marked ``m``, below 0.5; the
            class marked ``y`` has the rest. 0: they are no different from the others.
        split: ``train``, ``val`` or ``test`` for all rows; by default the files in a folder
            ``Tests`` are test, and the others are divided by ``data.splits``.
        allow_outside_root: Whether images may be outside ``root``, by ``../``, an
            absolute path or a link; only for a file that you trust.
    """

    def __init__(
        self,
        paths: list[str] | str,
        root: Path | None = None,
        labels: Labels | None = None,
        maybe: float = 0.2,
        split: Literal["train", "val", "test"] | None = None,
        allow_outside_root: bool = False,
    ) -> None:
        if not 0 <= maybe < 0.5:
            raise UserError(f"maybe should be from 0 to below 0.5. Found {maybe}")
        self.paths = paths if isinstance(paths, list) else [os.fspath(paths)]
        self.root = root
        self.labels = labels
        self.maybe = maybe
        self.split = split
        self.allow_outside_root = allow_outside_root

    @classmethod
    def recognise(cls, path: str) -> Recognised | None:
        """Recognise a label file by its rows, or a folder by the label files below it."""
        root = glob.escape(path)
        # As downloaded they are in `base/Annotations/`; a deeper search may meet endless links.
        levels = (os.path.join(root, *["*"] * depth, "*.csv") for depth in range(3))
        below = [file for level in levels for file in sorted(glob.glob(level))]
        files = [file for file in ([path] if os.path.isfile(path) else below) if _is_typical(file)]
        return Recognised({"paths": files}, tuple(ATTRIBUTES)) if files else None

    def check_files(self) -> None:
        """Check the label files; see `Source.check_files`."""
        self._files()

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Read the files and find their images; see `Source.read`."""
        files = [_read(path) for path in self._files()]
        images = [
            rooted(self._root(file), file.images.tolist(), file.location, self.allow_outside_root)
            for file in files
        ]
        keys = [relative_keys(self._root(file), file.images.tolist()) for file in files]
        answers = [self._answers(file) for file in files]
        cells = {name: np.concatenate([own[name] for own in answers]) for name in ATTRIBUTES}
        origins = np.repeat(texts([file.path for file in files]), [len(f.rows) for f in files])
        rows = np.concatenate([file.rows for file in files])
        columns = Columns(
            "FashionAI",
            list(cells),
            lambda name: cells[name].copy(),
            lambda i, name: f"{origins[i]} row {rows[i]} ({name})",
            kind="attribute",
        )
        chosen = columns.of_tasks(tasks, self.labels or _by_name(tasks))
        return SourceTable(
            origin=listed(file.path for file in files),
            images=np.concatenate(images),
            keys=np.concatenate(keys),
            labels=columns.labels(chosen, tasks),
            splits=np.concatenate([self._splits(file) for file in files]),
            rows=rows,
            origins=origins,
        )

    def _files(self) -> list[str]:
        found = []
        for path in map(os.path.expanduser, self.paths):
            own = [path] if os.path.isfile(path) else sorted(glob.glob(path, recursive=True))
            if not own:
                raise UserError(f"{path} does not exist, and no file matches it as a glob")
            found += own
        return list(dict.fromkeys(found))

    def _root(self, file: "_File") -> Path:
        if self.root is not None:
            return os.path.expanduser(self.root)
        return os.path.dirname(os.path.dirname(os.path.abspath(file.path)))

    def _splits(self, file: "_File") -> Texts:
        in_tests = os.path.basename(os.path.dirname(os.path.abspath(file.path))) == "Tests"
        return texts([self.split or ("test" if in_tests else None)] * len(file.rows))

    def _answers(self, file: "_File") -> dict[str, Texts]:
        """Return the classes of a file's rows for each attribute, None in rows of others."""
        out = {name: texts([None] * len(file.rows)) for name in ATTRIBUTES}
        pairs = pd.MultiIndex.from_arrays([file.attributes, file.letters])
        codes, distinct = pd.factorize(pairs)
        for code, (attribute, letters) in enumerate(distinct):
            rows = np.flatnonzero(codes == code)
            where = file.location(int(rows[0]))
            if attribute not in ATTRIBUTES:
                raise UserError(
                    f"{where}: {quoted(attribute)} is not an attribute; expected one of "
                    f"{listed(ATTRIBUTES)}{did_you_mean(attribute, ATTRIBUTES)}"
                )
            if letters:
                out[attribute][rows] = self._class(letters, ATTRIBUTES[attribute], where)
        return out

    def _class(self, letters: str, classes: Sequence[str], where: str) -> str:
        """Return the class of letters, or the shares of several."""
        if len(letters) != len(classes) or set(letters) - set("ymn") or set(letters) == {"n"}:
            raise UserError(
                f"{where}: the label is {quoted(letters)}; expected {len(classes)} letters, y for "
                "the class, m for each that may apply, n for the others"
            )
        marked = {
            letter: [name for own, name in zip(letters, classes, strict=True) if own == letter]
            for letter in "ym"
        }
        # Only if no class is sure do the others count for all of the target.
        maybe = self.maybe if marked["y"] else 1.0
        shares = [(name, (1 - maybe) / len(marked["y"])) for name in marked["y"]]
        shares += [(name, maybe / len(marked["m"])) for name in marked["m"] if maybe]
        if len(shares) == 1:
            return shares[0][0]
        return "|".join(f"{name}:{share:g}" for name, share in shares)


class _File(NamedTuple):
    """A label file.

    Attributes:
        path: Its path in messages.
        rows: The number of each row, (N,).
        images: The paths, (N,).
        attributes: The second column, (N,).
        letters: The third column, (N,), empty if not labelled.
    """

    path: str
    rows: npt.NDArray[np.int64]
    images: Texts
    attributes: Texts
    letters: Texts

    def location(self, i: int) -> str:
        """Return the place of row ``i`` for a message."""
        return f"{self.path} row {self.rows[i]}"


def _is_typical(path: str) -> bool:
    """Whether one of the first rows of a file names an attribute; there may be a header."""
    if not path.lower().endswith(".csv"):
        return False
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            start = file.read(4096)
    except OSError:  # a folder of this name, or a file of somebody else
        return False
    rows = [line.split(",") for line in start.splitlines()[:2]]
    return any(len(row) > 1 and row[1].strip() in ATTRIBUTES for row in rows)


def _read(path: str) -> _File:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file)]
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    filled = [(row, line) for row, line in enumerate(lines, start=1) if any(line)]
    if filled and not filled[0][1][0].lower().endswith(suffixes()):
        del filled[0]  # the header that some copies have
    if not filled:
        raise UserError(f"{path} has no rows; expected image, attribute and label in each")
    for row, line in filled:
        if not 2 <= len(line) <= 4:
            raise UserError(
                f"{path} row {row} has {len(line)} cells; expected image, attribute and label"
            )
    columns = [texts([line[i] if i < len(line) else "" for _, line in filled]) for i in range(3)]
    return _File(path, np.array([row for row, _ in filled]), *columns)


def _by_name(tasks: Sequence[str]) -> Labels | None:
    """Return the attribute of each task named like one, None if there is no such task."""
    names = {}
    for attribute in ATTRIBUTES:
        short = attribute.removesuffix(_SUFFIX)
        for name in (attribute, short, short.partition("_")[0]):
            names[name] = attribute
    return {task: names[task] for task in tasks if task in names} or None
