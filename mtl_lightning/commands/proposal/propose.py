"""Tables and folders as tasks and sources, with settings that fit them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mtl_lightning.audit.absence_odds import Absence, StepSize
from mtl_lightning.audit.images import read_size
from mtl_lightning.audit.shapes import Sizes, cropped, fitting_size
from mtl_lightning.commands.proposal.columns import Column, Kind
from mtl_lightning.commands.proposal.inputs import InputPlan, apply, plan_inputs
from mtl_lightning.commands.proposal.inspection import inspect_paths
from mtl_lightning.commands.proposal.sources import (
    SourcePlan,
    download_source,
    folder_source,
    table_source,
)
from mtl_lightning.commands.proposal.task_plans import (
    TaskPlan,
    classify_columns,
    name_generator,
    plan_tasks,
)
from mtl_lightning.system.errors import UserError, quoted

SIZES = (32, 64, 96, 128, 160, 192, 224)
"""VGG16 needs at least 32 pixels, and its weights were trained at 224."""
SAMPLE = 200
"""Number of images whose size is read."""
BATCHES, STEPS = (8, 16, 32, 64), 20
"""Batch sizes to choose from, and the least number of steps of an epoch."""
RARELY = 0.05
"""Largest share of steps without a label of a task."""


@dataclass
class Proposal:
    """The content of a proposed config.

    Attributes:
        tasks: The tasks.
        sources: The sources of images and labels.
        images: The number of images, or of rows without images.
        has_splits: Whether a table or folder names splits.
        image_size: Height and width, in pixels.
        median: Height and width of the median image, in pixels.
        removed: The share of the median image that the centre crop of evaluation removes.
        batch_size: Images per device and step.
        left_out: Data that became no task, each with the reason.
        notes: Other notes for the user.
        inputs: The inputs, for rows without images.
    """

    tasks: list[TaskPlan]
    sources: list[SourcePlan]
    images: int
    has_splits: bool
    image_size: tuple[int, int]
    median: tuple[int, int]
    removed: float
    batch_size: int
    left_out: list[tuple[str, str]]
    notes: list[str]
    inputs: list[InputPlan] = field(default_factory=list)


def propose(paths: Sequence[str], as_tasks: Sequence[str] = ()) -> Proposal:
    """Propose tasks, sources and settings for tables and folders.

    Args:
        paths: The tables and folders.
        as_tasks: Columns that the user wants as tasks, whatever they look like.

    Raises:
        UserError: If one of them does not exist or cannot be read, or nothing in them is a task.
    """
    found = inspect_paths(paths, as_tasks)
    columns, missing = classify_columns([*found.downloads, *found.tables], found.left_out, as_tasks)
    plans, place = plan_tasks(columns, missing, found.folders)
    if not plans:
        reasons = [f"{where}: {why}" for where, why in found.left_out]
        raise UserError(f"nothing in it is a task; {'; '.join(reasons[:6]) or 'there is no label'}")
    named = name_generator()
    sources = [download_source(download, place, named) for download in found.downloads]
    inputs = plan_inputs(found.tables, missing, found.left_out)
    for table in found.tables:
        source = table_source(table, columns, place, missing, named)
        if source is not None:
            apply(inputs, table, source.arguments)
            sources.append(source)
    sources += [folder_source(folder, named) for folder in found.folders]
    images = found.images
    rows = sum(table.rows for table in found.tables)
    if rows and images:
        raise UserError(
            "tables without images should be given alone, or as rows of the same images. Found "
            f"{len(images):,} images in others; see docs/tables.md for joining them"
        )
    sizes = _sizes(images)
    shorter = int(np.median(sizes.min(axis=1)))
    fitting = max([size for size in SIZES if size <= shorter], default=SIZES[0])
    image_size = fitting_size(sizes, fitting)
    height, width = np.median(sizes, axis=0).astype(int).tolist()
    return Proposal(
        tasks=plans,
        sources=[source for source in sources if source is not None],
        images=rows or len(images),
        inputs=inputs,
        has_splits=found.has_splits,
        image_size=image_size,
        median=(height, width),
        removed=float(np.median(cropped(sizes, image_size))),
        batch_size=_batch_size(rows or len(images), plans),
        left_out=found.left_out,
        notes=[*found.notes(), *_unknown_answers(columns)],
    )


def _unknown_answers(columns: Mapping[str, Column]) -> Iterator[str]:
    for name, column in columns.items():
        if column.kind is Kind.YES_NO and "-1" in column.missing:
            yield (
                f"column {quoted(name)}: -1 next to {' and '.join(sorted(column.counts))} is taken "
                "to mean not labelled; if it means no, use `values: {-1: no}` instead"
            )


# --------------------------------------------------------------------- settings


def _sizes(images: Sequence[str]) -> Sizes:
    """Return the heights and widths of a sample of images, (n, 2), in pixels."""
    chosen = np.random.default_rng(0).permutation(len(images))[:SAMPLE]
    found = [read_size(images[row]) for row in chosen.tolist()]
    known = [size for size in found if size is not None]  # `inspect` reports the others
    return np.array(known or [(SIZES[3], SIZES[3])], dtype=np.int64)


def _batch_size(images: int, plans: Sequence[TaskPlan]) -> int:
    """Return a batch size that gives an epoch enough steps, and most steps labels of all tasks."""
    least = max([size for size in BATCHES if size * STEPS <= images], default=BATCHES[0])
    rarest = min(images, *(plan.labels for plan in plans))
    for size in BATCHES:
        if size >= least and Absence.of(images, rarest, StepSize(size)).step <= RARELY:
            return size
    return BATCHES[-1]
