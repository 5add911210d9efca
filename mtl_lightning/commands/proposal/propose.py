"""Tables and folders as tasks and sources, with settings that fit them."""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mtl_lightning.audit.absence_odds import Absence, StepSize
from mtl_lightning.commands.proposal import downloads, folders, tables
from mtl_lightning.commands.proposal.downloads import Download
from mtl_lightning.commands.proposal.folders import Folder
from mtl_lightning.commands.proposal.sources import (
    SourcePlan,
    download_source,
    folder_source,
    table_source,
)
from mtl_lightning.commands.proposal.tables import Table
from mtl_lightning.commands.proposal.task_plans import (
    TaskPlan,
    classify_columns,
    name_generator,
    plan_tasks,
)
from mtl_lightning.data.sources.tabular import SUFFIXES
from mtl_lightning.system.errors import UserError, did_you_mean, listed

SIZES = (32, 64, 96, 128, 160, 192, 224)
"""VGG16 takes no image below 32 pixels, and its weights were trained at 224."""
SAMPLE = 200
"""Images whose size is read."""
BATCHES, STEPS = (8, 16, 32, 64), 20
"""Batch sizes to choose from, and steps that an epoch should have at least."""
RARELY = 0.05
"""A step should be without a task no more often than this."""


@dataclass
class Proposal:
    """The content of a proposed config.

    Attributes:
        tasks: The tasks.
        sources: The sources of images and labels.
        images: How many images there are.
        has_splits: Whether a table or folder names splits.
        image_size: Height and width, in pixels.
        shorter_side: The median of the images' shorter sides, in pixels.
        batch_size: Images a device and step.
        left_out: Data that became no task, each with the reason.
        notes: Other remarks for the user.
    """

    tasks: list[TaskPlan]
    sources: list[SourcePlan]
    images: int
    has_splits: bool
    image_size: int
    shorter_side: int
    batch_size: int
    left_out: list[tuple[str, str]]
    notes: list[str]


def propose(paths: Sequence[str]) -> Proposal:
    """Propose tasks, sources and settings for tables and folders.

    Raises:
        UserError: If one of them is not there or cannot be read, or nothing in them is a task.
    """
    left_out: list[tuple[str, str]] = []
    found_tables, found_folders, known = _inspect_paths(paths, left_out)
    columns, missing = classify_columns([*known, *found_tables], left_out)
    plans, place = plan_tasks(columns, missing, found_folders)
    if not plans:
        reasons = [f"{where}: {why}" for where, why in left_out]
        raise UserError(f"nothing in it is a task; {'; '.join(reasons[:6]) or 'there is no label'}")
    named = name_generator()
    sources = [download_source(download, place, named) for download in known]
    sources += [table_source(table, place, missing, named) for table in found_tables]
    sources += [folder_source(folder, named) for folder in found_folders]
    found = [each.images for each in (*known, *found_tables, *found_folders)]
    images = list(dict.fromkeys(image for own in found for image in own))
    shorter = _shorter_side(images)
    return Proposal(
        tasks=plans,
        sources=[source for source in sources if source is not None],
        images=len(images),
        has_splits=any(t.split for t in found_tables)
        or any(f.splits for f in found_folders)
        or any(d.has_splits for d in known),
        image_size=max([size for size in SIZES if size <= shorter], default=SIZES[0]),
        shorter_side=shorter,
        batch_size=_batch_size(len(images), plans),
        left_out=left_out,
        notes=[
            f"{table.path}: {table.absent:,} rows name no image that is there"
            for table in found_tables
            if table.absent
        ]
        + [f"{folder.path}: {note}" for folder in found_folders for note in folder.passed.notes()]
        + [note for download in known for note in download.notes],
    )


def _inspect_paths(
    paths: Sequence[str], left_out: list[tuple[str, str]]
) -> tuple[list[Table], list[Folder], list[Download]]:
    """Inspect the paths that the user named, and tables in folders; each only once."""
    known: dict[str, Download] = {}
    found_tables: dict[str, Table] = {}
    found_folders: dict[str, Folder] = {}
    for path in map(os.path.expanduser, paths):
        download = downloads.recognise(path)
        if download is not None:
            known[os.path.realpath(path)] = download
        elif os.path.isdir(path):
            folder = folders.inspect_folder(path)
            if os.path.realpath(folder.path) not in found_folders:
                found_folders[os.path.realpath(folder.path)] = folder
        elif not os.path.exists(path):
            raise _missing_path(path)
        elif path.lower().endswith(SUFFIXES):
            found_tables[os.path.realpath(path)] = tables.inspect_table(path)
        else:
            raise UserError(
                f"{path} should be a folder, or a table ({listed(SUFFIXES)}). Found neither"
            )
    named = {image for download in known.values() for image in download.images}
    for folder in found_folders.values():
        _inspect_tables_of(folder, found_tables, named, left_out, alone=len(paths) == 1)
    classed = [folder for folder in found_folders.values() if folder.classes]
    left_out += [
        (f"{folder.path}, folders within its folders", _maybe_groups(folder))
        for folder in classed
        if folder.single
    ]
    return list(found_tables.values()), classed, list(known.values())


def _maybe_groups(folder: Folder) -> str:
    """Return the reason why folders two deep are no task, and how they become groups."""
    task = re.sub(r"\W", "_", folder.task)  # a folder may have any name, a group of a pattern not
    pattern = ("(?P<split>[^/]+)/" * folder.splits) + f"(?P<{task}>[^/]+)/(?P<group>[^/]+)/.*"
    return (
        f"each is in one folder only ({listed(folder.single, 4)}); if the images in each belong "
        f"together they are a group: FilenameSource with the pattern {pattern}"
    )


def _inspect_tables_of(
    folder: Folder,
    found: dict[str, Table],
    known: Collection[str],
    left_out: list[tuple[str, str]],
    alone: bool,
) -> None:
    """Inspect the tables of a folder that name images; they take precedence over its folders."""
    errors = []
    below = set(map(os.path.realpath, folder.images))
    for path in folder.tables:
        try:
            found.setdefault(os.path.realpath(path), tables.inspect_table(path))
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


# --------------------------------------------------------------------- settings


def _shorter_side(images: Sequence[str]) -> int:
    """Return the median of the shorter sides of a sample of images, in pixels."""
    chosen = np.random.default_rng(0).permutation(len(images))[:SAMPLE]
    sides = []
    for row in chosen.tolist():
        try:
            with Image.open(images[row]) as image:
                sides.append(min(image.size))
        except Exception:  # `inspect` reports what cannot be read
            continue
    return int(np.median(sides)) if sides else SIZES[3]


def _batch_size(images: int, plans: Sequence[TaskPlan]) -> int:
    """Return a size that gives an epoch some steps, and most steps a label of every task."""
    least = max([size for size in BATCHES if size * STEPS <= images], default=BATCHES[0])
    rarest = min(images, *(plan.labels for plan in plans))
    for size in BATCHES:
        if size >= least and Absence.of(images, rarest, StepSize(size)).step <= RARELY:
            return size
    return BATCHES[-1]


def _missing_path(path: str) -> UserError:
    """Return the error for a missing file or folder, with the nearest name."""
    folder, name = os.path.split(path)
    near = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
    return UserError(f"{path}: no such file or folder{did_you_mean(name, near)}")
