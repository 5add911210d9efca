"""Tables, folders and data sets as the sources that read them."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtl_lightning.commands.proposal.columns import Column
from mtl_lightning.commands.proposal.downloads import Download
from mtl_lightning.commands.proposal.folders import Folder
from mtl_lightning.commands.proposal.tables import Table
from mtl_lightning.data.images import decode
from mtl_lightning.data.intensity import UnknownRangeError
from mtl_lightning.system.errors import UserError, quoted

TRIED = 5
"""Number of images of a source that are decoded."""


@dataclass
class SourcePlan:
    """A proposed source: its class, its arguments, and a remark on some of them."""

    name: str
    class_path: str
    arguments: dict[str, Any]
    remarks: dict[str, str] = field(default_factory=dict)


def table_source(
    table: Table,
    columns: Mapping[str, Column],
    place: Mapping[str, tuple[str, str]],
    missing: Sequence[str],
    named: Callable[[str], str],
) -> SourcePlan | None:
    """Return a table as a source, None if no column of it became a task."""
    labels = _labels(table.labels, place)
    if not labels:
        return None
    stem = os.path.splitext(os.path.basename(table.path))[0]
    arguments: dict[str, Any] = {"path": table.path, "image": table.image}
    if table.key is not None:
        arguments["key"] = table.key
    remarks: dict[str, str] = {}
    if table.root is not None:
        arguments["root"] = table.root
    if table.outside:
        arguments["allow_outside_root"] = True
        remarks["allow_outside_root"] = "some images are outside the root; only for trusted tables"
    arguments["labels"] = labels
    if table.split is not None:
        arguments["split"] = table.split
    if table.group is not None:
        arguments["group"] = table.group
        remarks["group"] = 'its rows stay in one split; "" if they need not'
        if not table.group:
            remarks["group"] = "no column says which images belong together"
    cells = {name: set(table.labels[name]) for name in table.labels if name in place}
    own = set().union(*cells.values())
    if own & set(missing):
        arguments["missing"] = sorted(own & set(missing))
        remarks["missing"] = "taken to mean: not labelled"
    commas = [name for name in cells if columns[name].decimal and _with_comma(cells[name])]
    if commas:
        arguments["decimal"] = ","
        example = min(cell for cell in cells[commas[0]] if cell and "," in cell)
        remarks["decimal"] = f"decimal comma, as {example} in column {quoted(commas[0])}"
    values = _values(columns, place, cells, missing)
    if values:
        arguments["values"] = values
        remarks["values"] = "null: taken to mean not labelled"
    return _with_intensity(SourcePlan(named(stem), "TableSource", arguments, remarks), table.images)


def _with_comma(cells: Collection[str | None]) -> bool:
    return any(cell is not None and "," in cell for cell in cells)


def _values(
    columns: Mapping[str, Column],
    place: Mapping[str, tuple[str, str]],
    cells: Mapping[str, Collection[str | None]],
    missing: Sequence[str],
) -> dict[str, dict[str, str | None]]:
    """Return meanings for the cells of yes/no columns if `missing` is not enough."""
    values = {}
    for name in cells:
        task, label = place[name]
        unknown = set(columns[name].missing) - set(missing) & set(cells[name])
        if label and unknown:
            known = {text: text for text in sorted(columns[name].counts)}
            values[f"{task}/{label}"] = dict.fromkeys(sorted(unknown)) | known
    return values


def _labels(columns: Iterable[str], place: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Return task to column, or to the columns of its labels, as a source takes them."""
    labels: dict[str, Any] = {}
    for name in columns:
        task, label = place.get(name, ("", ""))
        if label:
            labels.setdefault(task, {})[label] = name
        elif task:
            labels[task] = name
    return labels


def download_source(
    download: Download, place: Mapping[str, tuple[str, str]], named: Callable[[str], str]
) -> SourcePlan | None:
    """Return a data set as a source, None if no kind of its labels became a task."""
    labels = _labels(download.labels, place)
    if not labels:
        return None
    name = os.path.splitext(os.path.basename(os.path.abspath(download.path)))[0]
    return SourcePlan(named(name), download.class_path, {**download.arguments, "labels": labels})


def folder_source(folder: Folder, named: Callable[[str], str]) -> SourcePlan:
    """Return a folder as a source of the names of its folders, or also of their inner folders."""
    name = named(os.path.basename(os.path.abspath(folder.path)))
    if not folder.inner:
        arguments: dict[str, Any] = {"path": folder.path, "task": folder.task}
        return _with_intensity(SourcePlan(name, "FolderSource", arguments), folder.images)
    parts = [f"(?P<{folder.task}>[^/]+)", f"(?:(?P<{folder.inner_task}>[^/]+)/)?.*"]
    pattern = "/".join(["(?P<split>[^/]+)", *parts] if folder.splits else parts)
    arguments = {"path": folder.path, "pattern": pattern}
    if folder.loose:
        arguments["unmatched"] = "skip"
    return _with_intensity(SourcePlan(name, "FilenameSource", arguments), folder.images)


def _with_intensity(source: SourcePlan, images: Sequence[str]) -> SourcePlan:
    """Add a range of intensities for images whose format does not define one."""
    if any(map(_has_unknown_range, images[:TRIED])):
        source.arguments["intensity"] = {"percentiles": [1, 99]}
        source.remarks["intensity"] = (
            "of each image; if absolute values matter: {min: ..., max: ...}"
        )
    return source


def _has_unknown_range(image: str) -> bool:
    try:
        decode(image)
    except UserError as error:  # `inspect` reports other errors
        return isinstance(error.__cause__, UnknownRangeError)
    return False
