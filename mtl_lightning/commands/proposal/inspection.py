"""Inspecting paths: tables, folders and data sets."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mtl_lightning.commands.proposal import downloads, folders, tables
from mtl_lightning.commands.proposal.downloads import Download
from mtl_lightning.commands.proposal.folders import Folder
from mtl_lightning.commands.proposal.tables import Table
from mtl_lightning.data.sources.tabular import SUFFIXES
from mtl_lightning.system.errors import UserError, did_you_mean, listed
from mtl_lightning.system.files import check_exists


@dataclass
class Inspection:
    """The content of the paths that a user named.

    Attributes:
        tables: Tables that name images.
        folders: Folders of classes whose images no table names.
        downloads: Data sets as downloaded.
        left_out: Data that cannot be a task, each with the reason.
    """

    tables: list[Table]
    folders: list[Folder]
    downloads: list[Download]
    left_out: list[tuple[str, str]]

    @property
    def images(self) -> list[str]:
        """All images, each only once."""
        parts: list[Download | Table | Folder] = [*self.downloads, *self.tables, *self.folders]
        return list(dict.fromkeys(image for part in parts for image in part.images))

    @property
    def has_splits(self) -> bool:
        """Whether a table, folder or data set names splits."""
        splits = [*(t.split for t in self.tables), *(f.splits for f in self.folders)]
        return any(splits) or any(download.has_splits for download in self.downloads)

    def notes(self) -> list[str]:
        """Return notes on what was skipped."""
        return [
            *(
                f"{table.path}: {table.absent:,} rows name no image that is there"
                for table in self.tables
                if table.absent
            ),
            *(
                f"{folder.path}: {note}"
                for folder in self.folders
                for note in folder.passed.notes()
            ),
            *(note for download in self.downloads for note in download.notes),
        ]


def inspect_paths(paths: Sequence[str], as_tasks: Sequence[str] = ()) -> Inspection:
    """Inspect the paths that the user named, and tables in folders; each only once.

    Args:
        paths: Tables, folders, data sets.
        as_tasks: Columns that the user wants as tasks, whatever they look like.

    Raises:
        UserError: If one of them does not exist or cannot be read, or no table has such a column.
    """
    left_out: list[tuple[str, str]] = []
    known: dict[str, Download] = {}
    found_tables: dict[str, Table] = {}
    found_folders: dict[str, Folder] = {}
    for path in map(os.path.expanduser, paths):
        check_exists(path)
        download = downloads.recognise(path)
        if download is not None:
            known[os.path.realpath(path)] = download
        elif os.path.isdir(path):
            folder = folders.inspect_folder(path)
            if os.path.realpath(folder.path) not in found_folders:
                found_folders[os.path.realpath(folder.path)] = folder
        elif path.lower().endswith(SUFFIXES):
            found_tables[os.path.realpath(path)] = tables.inspect_table(path, as_tasks)
        else:
            raise UserError(
                f"{path} should be a folder, or a table ({listed(SUFFIXES)}). Found neither"
            )
    named = {image for download in known.values() for image in download.images}
    for folder in found_folders.values():
        _inspect_tables_of(folder, found_tables, named, left_out, as_tasks, len(paths) == 1)
    classed = [folder for folder in found_folders.values() if folder.classes]
    left_out += [
        (f"{folder.path}, folders within its folders", _maybe_groups(folder))
        for folder in classed
        if folder.single
    ]
    _check_columns(list(found_tables.values()), as_tasks)
    return Inspection(list(found_tables.values()), classed, list(known.values()), left_out)


def _check_columns(found: Sequence[Table], as_tasks: Sequence[str]) -> None:
    names = list(dict.fromkeys(name for t in found for name in (*t.labels, *t.left_out)))
    if as_tasks and not names:
        raise UserError("--task is for the columns of tables. Found no table")
    for name in as_tasks:
        if name not in names:
            raise UserError(
                f"--task should be one of the columns {listed(names)}. Found "
                f"{name}{did_you_mean(name, names)}"
            )


def _maybe_groups(folder: Folder) -> str:
    """Return why folders within folders are not a task, and how to make them groups."""
    # A folder may have any name, but not a group of a pattern.
    group = folder.task if folder.task.isidentifier() else "folder"
    pattern = ("(?P<split>[^/]+)/" * folder.splits) + f"(?P<{group}>[^/]+)/(?P<group>[^/]+)/.*"
    labels = "" if group == folder.task else f" and labels: {{{folder.task}: {group}}}"
    return (
        f"each is in one folder only ({listed(folder.single, 4)}); if the images in each belong "
        f"together they are a group: FilenameSource with the pattern {pattern}{labels}"
    )


def _inspect_tables_of(
    folder: Folder,
    found: dict[str, Table],
    known: Collection[str],
    left_out: list[tuple[str, str]],
    as_tasks: Sequence[str],
    alone: bool,
) -> None:
    """Inspect the tables of a folder that name images; they take precedence over its folders."""
    errors = []
    below = set(map(os.path.realpath, folder.images))
    for path in folder.tables:
        try:
            found.setdefault(os.path.realpath(path), tables.inspect_table(path, as_tasks))
        except UserError as error:
            errors.append(error)
            left_out.append((path, str(error).removeprefix(f"{path}: ")))
    is_named = bool(below & set(known)) or any(below & set(t.images) for t in found.values())
    if folder.classes and is_named:
        why = f"a table names its images; its folders are {listed(folder.classes, 4)}"
        left_out.append((folder.path, why))
        folder.classes = {}
    elif not folder.classes and not folder.tables:
        if alone:
            passed = "".join(f"; {note}" for note in folder.passed.notes())
            raise UserError(
                f"{folder.path} should have labels: a table, or a folder per class. Found "
                f"{len(folder.images):,} images without labels{passed}"
            )
        if not is_named:
            left_out.append((folder.path, f"{len(folder.images):,} images without labels"))
    elif errors and alone and not found and not folder.classes:
        raise errors[0]
