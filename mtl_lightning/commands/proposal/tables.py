"""Tables as data: the columns of images (found by content), splits, groups and labels."""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mtl_lightning.commands.proposal.columns import Column, Kind
from mtl_lightning.commands.proposal.maps import classify_maps
from mtl_lightning.data.images import suffixes
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.data.sources.locate import locate
from mtl_lightning.data.sources.tabular import TableFile, no_header, open_table
from mtl_lightning.data.splits import SPELLINGS
from mtl_lightning.system.errors import UserError, listed, quoted
from mtl_lightning.tasks.cells import identifier, normalised, number
from mtl_lightning.tasks.rle import is_rle

LOOKED_AT = 200
"""Number of cells of a column that are checked to be files."""
FOLDERS = 50
"""Number of folders next to a table that are searched for them."""
FEW_ANSWERS, ROWS_AN_ANSWER = 12, 20
"""Number of values up to which they are labels rather than groups, and their mean frequency."""
GROUPS = re.compile(
    "(group|subject|patient|person|participant|user|sender|author|photographer|owner|session|scene|"
    "video|clip|sequence|case|household)"
    r"([\W_]*(id|no|nr|number|name))?"
)
"""Names of columns (or of their ids) that group rows, if their values repeat."""


@dataclass
class Table:
    """A table, inspected.

    Attributes:
        path: The path as the user wrote it.
        image: The column of paths; None if its rows have no image.
        root: The folder that its paths are relative to; None for the table's own.
        images: The existing files.
        absent: Number of rows whose files do not exist.
        outside: Whether some are outside ``root``.
        split: The column of splits, if there is one.
        group: The column of groups, if there is one; ``""`` if the one of this name is a task.
        labels: The cells of each column that may be a task.
        maps: The columns of ``labels`` that name files with a label for each pixel.
        left_out: The reason for each other column.
        key: The column of distinct names of rows, for a table without images.
        rows: The number of rows.
        inputs: The cells of each column that may be an input, for a table without images.
    """

    path: str
    image: str | None
    root: str | None
    images: list[str]
    absent: int
    outside: bool
    split: str | None = None
    group: str | None = None
    labels: dict[str, Texts] = field(default_factory=dict)
    maps: dict[str, Column] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    key: str | None = None
    rows: int = 0
    inputs: dict[str, Texts] = field(default_factory=dict)


class NoImagesError(UserError):
    """A table names no image."""


def inspect_table(path: str, as_tasks: Collection[str] = ()) -> Table:
    """Inspect a table.

    Args:
        path: The table.
        as_tasks: Columns that the user wants as tasks, whatever they look like. If no column
            names images, they are the tasks, and others are inputs.

    Raises:
        UserError: If it cannot be read, or no column names existing images, or is a task.
    """
    file = open_table(path)
    columns: dict[str, Texts] = {}
    left_out: dict[str, str] = {}
    for name in file.names:
        try:
            columns[name] = file.column(name)
        except UserError:
            left_out[name] = "its cells are neither text nor numbers"
    try:
        image, folder = _image_column(file, columns)
    except NoImagesError as error:
        if not set(as_tasks) & set(columns):
            raise UserError(
                f"{error}; if its rows have no image, name the columns that are questions: "
                f"--tasks COLUMN..."
            ) from None
        return _without_images(path, columns, left_out, as_tasks)
    if _found(folder, [image]):
        raise UserError(no_header(path, image))
    root = None if _same(folder, _folder_of(path)) else folder
    paths = columns.pop(image)
    named = np.array([cell is not None for cell in paths], dtype=bool)
    images, exists = locate(folder, paths[named].tolist(), allow_outside_root=True)
    absent = len(paths) - int(exists.sum())
    outside = not np.array_equal(exists, locate(folder, paths[named].tolist())[1])
    found = images[exists].tolist()
    table = Table(path, image, root, found, absent, outside, left_out=left_out)
    _maps(table, columns, [os.path.join(folder, path or "") for path in paths])
    _roles(table, columns, len(paths), as_tasks)
    return table


def _without_images(
    path: str, columns: dict[str, Texts], left_out: dict[str, str], as_tasks: Collection[str]
) -> Table:
    """Return a table whose columns are questions, or inputs."""
    rows = len(next(iter(columns.values())))
    table = Table(path, None, None, [], 0, False, left_out=left_out, rows=rows)
    for name, cells in list(columns.items()):
        if name not in as_tasks and names_rows(name) and len(set(distinct(cells))) == rows:
            table.key = table.key or name
            del columns[name]
    _roles(table, columns, rows, as_tasks)
    for name in [name for name in table.labels if name not in as_tasks]:
        table.inputs[name] = table.labels.pop(name)
    return table


def _maps(table: Table, columns: dict[str, Texts], images: Sequence[str]) -> None:
    """Take the columns out whose cells name files, or hold encoded masks."""
    root = table.root or _folder_of(table.path)
    for name, cells in list(columns.items()):
        first = distinct(cells)[:1]
        if not first or not (is_rle(first[0]) or _found(root, first)):
            continue
        own = columns.pop(name)
        column = classify_maps(root, images, own.tolist())
        if column.kind is Kind.NOTHING:
            table.left_out[name] = column.reason
        else:
            table.maps[name], table.labels[name] = column, own


def _folder_of(path: str) -> str:
    return os.path.dirname(path) or "."


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _roots(path: str) -> list[str]:
    """Return the folders that may hold a table's images, likeliest first."""
    own = _folder_of(path)
    below = sorted(entry.path for entry in os.scandir(own) if entry.is_dir())[:FOLDERS]
    found = [own, os.path.normpath(os.path.join(own, "..")), ".", *map(os.path.normpath, below)]
    roots: dict[str, str] = {}
    for folder in found:
        roots.setdefault(os.path.realpath(folder), folder)
    return list(roots.values())


def _image_column(file: TableFile, columns: dict[str, Texts]) -> tuple[str, str]:
    """Return the column with most files as cells, and the folder they are relative to."""
    best: tuple[float, str, str] = (0.0, "", "")
    promising = []
    for name, cells in columns.items():
        some = distinct(cells)[:LOOKED_AT]
        pictures = [cell for cell in some if cell.lower().endswith(suffixes())]
        promising += [(name, cell) for cell in pictures[:1]]
        for folder in _roots(file.path):
            share = _found(folder, some)
            if share > best[0]:
                best = share, name, folder
    if best[0]:
        return best[1], best[2]
    places = listed(os.path.abspath(folder) for folder in _roots(file.path)[:3])
    if promising:
        name, cell = promising[0]
        raise UserError(
            f'{file.path}: column "{name}" names "{cell}", which is not in any of {places}; run '
            f"the command from the folder that its paths are relative to"
        )
    again = [name for name, cells in columns.items() if name in cells]
    hint = f"; {quoted(again[0])} is a cell, too: is there no header?" if again else ""
    raise NoImagesError(
        f"{file.path}: no column holds the paths of images that are in any of {places}; columns: "
        f"{listed(file.names)}{hint}"
    )


def _found(folder: str, paths: Sequence[str]) -> float:
    """Return the share of paths that are files."""
    # Not `locate`, which lists a folder: only a few cells of many columns are checked.
    files = [os.path.isfile(os.path.join(folder, path)) for path in paths]
    return sum(files) / len(files) if files else 0.0


def _roles(
    table: Table, columns: dict[str, Texts], rows: int, as_tasks: Collection[str] = ()
) -> None:
    """Decide the roles of the other columns."""
    others = {name: cells for name, cells in columns.items() if name not in as_tasks}
    table.split = _split_column(table.path, others)
    if table.split is not None:
        splits = columns.pop(table.split)
    for name, cells in columns.items():
        values = distinct(cells)
        if name in as_tasks:
            table.labels[name] = normalised(cells)
        elif name == "split":
            table.left_out[name] = "not the names of splits"
        elif _names_a_group(name) and 1 < len(values) < rows and not table.group:
            clash = table.split is not None and _clash(cells, splits)
            if name == "group" and (clash or _is_question(values, rows)):
                table.group = ""
                table.left_out[name] = (
                    f"its {len(values)} values ({listed(values, 4)}) are answers rather than "
                    f"images that belong together; --task {name} makes it a task"
                )
            elif clash:
                table.left_out[name] = "some of its values are in two splits"
            else:
                table.group = name
        elif name == "group" or names_rows(name):
            table.left_out[name] = "it names rows, or groups of rows"
        else:
            table.labels[name] = normalised(cells)


def _split_column(path: str, columns: dict[str, Texts]) -> str | None:
    """Return the column that holds only names of splits."""
    order = sorted(columns, key=lambda name: name.lower() != "split")
    for name in order:
        words = {cell.lower() for cell in columns[name] if cell is not None}
        if len(words) > 1 and words <= set(SPELLINGS):
            return name
    words = {cell for cell in columns.get("split", ()) if cell is not None}
    strange = sorted(word for word in words if word.lower() not in SPELLINGS)
    if strange:
        raise UserError(
            f'{path}, column "split": "{strange[0]}" is not a split (train, val, test); '
            "rename the column if it is something else"
        )
    return "split" if words else None


def names_rows(name: str) -> bool:
    """Whether a column is called as if it named rows."""
    return re.search(r"(^|_|\b)(id|index|uuid)$", name.lower()) is not None


def _names_a_group(name: str) -> bool:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return GROUPS.fullmatch(words) is not None


def _is_question(values: Sequence[str], rows: int) -> bool:
    """Whether the values of a column called ``group`` are few words with many images each."""
    words = any(number(value) is None for value in values)
    return words and len(values) <= FEW_ANSWERS and len(values) * ROWS_AN_ANSWER <= rows


def _clash(groups: Texts, splits: Texts) -> bool:
    """Whether any group is in two splits."""
    rows = pd.DataFrame({"group": normalised(groups, identifier), "split": splits}).dropna()
    rows["split"] = rows["split"].str.lower().map(SPELLINGS)
    return bool(rows.drop_duplicates()["group"].duplicated().any())


def distinct(cells: Texts) -> list[str]:
    """Return the distinct texts of a column, in order of appearance."""
    return list(dict.fromkeys(cell for cell in cells if cell is not None))
