"""The labels of all images: the merged table, and per task its targets and masks.

It needs no trainer and loads no image, so `inspect` and `pack` use it alone.
"""

from collections.abc import Mapping, Sequence
from unicodedata import normalize

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_lightning.data.fields import Field, column_name, fields_of
from mtl_lightning.data.input_columns import InputColumns, encode_inputs, learn_inputs
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.data.merging import MergeOptions, merge
from mtl_lightning.data.mirroring.mirror import Mirror
from mtl_lightning.data.sampling import Population
from mtl_lightning.data.sources.base import Source
from mtl_lightning.data.splits import SPLITS, OnContradiction, raise_contradiction
from mtl_lightning.inputs import Input
from mtl_lightning.system.errors import UserError, quoted
from mtl_lightning.tasks import Encoded, Task


class LabelTable:
    """The merged table of all sources with the encoded labels of each task.

    Args:
        tasks: The tasks by name.
        sources: The sources of images and labels by name; they are read when first needed.
        options: How the sources are merged.
        mirror: How labels change in mirrored images.
        left_out: Tasks that sources and ``mirror`` may name although they are not in ``tasks``;
            their labels are merged, but not encoded.
        inputs: The columns that the network reads, by name.
        slices: The columns whose values divide the results.

    Attributes:
        encoded: Task to the labels of all rows of `table`; empty before `encode`.
        mirrored: Task to the labels that all rows have when their images are mirrored; only tasks
            whose labels change.
        input_columns: The inputs of all rows of `table`; without any before `encode`.

    Raises:
        UserError: If an input has the name of a task.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        sources: Mapping[str, Source],
        options: MergeOptions,
        mirror: Mirror | None = None,
        left_out: Mapping[str, Task] | None = None,
        inputs: Mapping[str, Input] | None = None,
        slices: Sequence[str] | None = None,
    ) -> None:
        self.tasks = tasks
        self.sources = sources
        self.options = options
        self.mirror = mirror
        self.left_out = left_out or {}
        self.encoded: dict[str, Encoded] = {}
        self.mirrored: dict[str, Encoded] = {}
        self.inputs = inputs or {}
        self.input_columns = InputColumns({})
        self.slices = tuple(dict.fromkeys(normalize("NFC", name) for name in slices or ()))
        self._table: MergedTable | None = None
        for name in self.inputs:
            if name in {*self.columns, *tasks, *self.left_out}:
                raise UserError(
                    f"data.inputs.{name} should be an input or a task. Found both; leave one out"
                )
        for source in sources.values():
            source.inputs_wanted = tuple(self.inputs)
            source.slices_wanted = self.slices

    @property
    def table(self) -> MergedTable:
        """The merged table; the sources are read on first access."""
        if self._table is None:
            if not self.sources:
                raise UserError(
                    "data.sources should name at least one source of labelled images. Found none"
                )
            self._table = self.merge(self.sources)
        return self._table

    def merge(
        self, sources: Mapping[str, Source], on_contradiction: OnContradiction = raise_contradiction
    ) -> MergedTable:
        """Merge sources for these tasks; see `merging.merge`."""
        meanings = {name: column.meaning for name, column in self.inputs.items()}
        return merge(
            sources,
            list(self.columns),
            self.options,
            on_contradiction,
            self.columns,
            meanings,
            self.slices,
        )

    def reuse(self, table: MergedTable) -> None:
        """Use a table that was merged before, from the same sources and options."""
        self._table = table

    def fields(self, task: str) -> list[str]:
        """Return the names of a task's columns in the table: ``task`` or ``task/label``."""
        return [column_name(task, field) for field in self.tasks[task].fields]

    @property
    def columns(self) -> dict[str, Field]:
        """The columns of all tasks by name, also of those left out."""
        return fields_of(self.tasks, self.left_out)

    def cells(self, task: str) -> NDArray[np.object_]:
        """Return the task's cells: ``(N,)``, or ``(N, fields)`` if it has several columns."""
        columns = [self.table.cells[field] for field in self.fields(task)]
        return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)

    def has_label(self, task: str) -> NDArray[np.bool_]:
        """Return which rows have a cell of the task, ``(N,)``."""
        labelled: NDArray[np.bool_] = np.any(
            [pd.notna(self.table.cells[field]) for field in self.fields(task)], axis=0
        )
        return labelled

    def infer_classes(self) -> dict[str, dict[str, object]]:
        """Let the tasks infer what the config left open (classes) from the training labels.

        Returns:
            Task to its `Task.identity`.

        Raises:
            UserError: If a task has no training label, or its labels cannot be classes.
        """
        training = self.table.in_split("train")
        known = {}
        for name, task in self.tasks.items():
            cells = self.cells(name)[training & self.has_label(name)]
            if not len(cells):
                raise UserError(f"task {name}: {self._nothing_to_learn(name)}")
            try:
                task.infer_classes(cells)
            except UserError as error:
                raise UserError(f"task {name}: {error}") from None
            known[name] = task.identity()
        return known

    def learn_inputs(self) -> dict[str, dict[str, object]]:
        """Let inputs compute statistics and vocabularies from the training rows.

        Returns:
            Input to its `Input.identity`.

        Raises:
            UserError: If nothing can be learned from a column.
        """
        return learn_inputs(self.inputs, self.table)

    def _nothing_to_learn(self, name: str) -> str:
        labelled = self.has_label(name)
        counts = {split: int((labelled & self.table.in_split(split)).sum()) for split in SPLITS}
        found = ", ".join(f"{count} in {split}" for split, count in counts.items())
        return f"no label in the training split ({found}), so it could never learn; label some"

    def encode(self) -> None:
        """Turn the cells of all tasks into targets and masks, plain and mirrored; done once.

        Inputs are encoded, too.

        Raises:
            UserError: If a cell cannot be read, or `Mirror` names classes that do not exist.
        """
        if self.encoded:
            return
        encoded = {name: self._encode(name) for name in self.tasks}
        if self.mirror is not None:
            self.mirrored = self.mirror.mirror_labels(self.tasks, encoded, self.left_out)
        table = self.table
        if self.inputs or not table.has_image.all():
            self.input_columns = encode_inputs(
                self.inputs, table.inputs, table.has_image, table.location
            )
        self.encoded = encoded

    def _encode(self, name: str) -> Encoded:
        task, cells = self.tasks[name], self.cells(name)
        if task.num_outputs < 1:
            raise UserError(
                f"task {name}: {type(task).__name__} should know its classes before labels "
                f"are read. Found none; give the data the tasks of the model: "
                f"dict(model.tasks.items())"
            )
        encoded = task.encode(cells)
        if encoded.bad.any():
            first = tuple(int(i) for i in np.argwhere(encoded.bad)[0])
            field = self.fields(name)[first[1] if len(first) > 1 else 0]
            count = int(encoded.bad.sum())
            more = f" ({count} labels like this)" if count > 1 else ""
            raise UserError(
                f"{self.table.location(first[0], field)}: task {name} cannot read the label "
                f"{quoted(cells[first])}{more}; {self.expected(name, cells[first])}"
            )
        return encoded

    def expected(self, name: str, cell: str) -> str:
        """Say what a task expects instead of a label that it cannot read, and how to change it."""
        table, task = self.table, self.tasks[name]
        expected = f"expected {task.expected(cell)}"
        rows = np.flatnonzero((self.cells(name) == cell).reshape(len(table), -1).any(axis=1))
        if not task.learns_classes or table.in_split("train")[rows].any():
            return expected
        counts = {split: int(table.in_split(split)[rows].sum()) for split in SPLITS}
        found = " and ".join(f"{count:,} in {split}" for split, count in counts.items() if count)
        named = table.named_splits[rows]
        if not pd.notna(named).all():
            why = "where data.splits put its images"
        elif (named == "train").any():
            why = "taken from train, as the tables name no val row; data.splits: {val: 0} keeps it"
        else:
            why = "where a table puts its images"
        return (
            f"{expected}, for no training image has it ({found}, {why}); name all classes in the "
            "task's `classes` to measure it though it cannot be learned, or leave it out: "
            f"`missing: [{cell}]` in its source"
        )

    def rows(self, split: str, unlabelled: bool = False) -> NDArray[np.int64]:
        """Return the rows of the table that are in the split and carry any label.

        Args:
            split: The split.
            unlabelled: Whether to return also those without a label.
        """
        inside = self.table.in_split(split)
        if unlabelled:
            return np.flatnonzero(inside)
        labelled = np.zeros(len(inside), dtype=bool)
        for encoded in self.encoded.values():
            labelled |= encoded.counts() > 0
        return np.flatnonzero(inside & labelled)

    def training_labels(self, task: str) -> tuple[Tensor, Tensor]:
        """Return the targets of the training rows that carry a label of the task, and their mask.

        If mirrored images have other labels, these are included, in the proportion in which
        training uses them.

        Returns:
            ``(n, ...)`` targets, and a bool mask with the shape of the task's losses.
        """
        encoded = self.encoded[task]
        rows = self.table.in_split("train") & (encoded.counts() > 0)
        parts = [encoded]
        if self.mirror is not None and task in self.mirrored:
            parts = self.mirror.training_labels(encoded, self.mirrored[task])
        targets = np.concatenate([part.targets[rows] for part in parts])
        labelled = np.concatenate([part.labelled[rows] for part in parts])
        return torch.from_numpy(targets), torch.from_numpy(labelled)

    def population(self, rows: NDArray[np.int64]) -> Population:
        """Return the data on some rows that a sampling may use."""
        strata = {name: self.tasks[name].strata(own)[rows] for name, own in self.encoded.items()}
        dates = None if self.table.dates is None else self.table.dates[rows]
        return Population(self.table.source[rows], self.table.shard[rows], strata, dates)

    def image_name(self, row: int) -> str:
        """Return the image of a row and its location in a table, for messages."""
        return f"{self.table.images[row]} ({self.table.location(row)})"

    def notes(self, unlabelled: bool = False) -> list[str]:
        """Return notes for the user on the labels, before training, one line each.

        Args:
            unlabelled: Whether training also takes the images without any label.
        """
        table = self.table
        notes = table.notes()
        if table.val_from_train:
            notes.append("the tables name no val row: its share (data.splits) was taken from train")
        bare = int(table.in_split("train").sum()) - len(self.rows("train"))
        if bare:
            what = "are trained on nevertheless" if unlabelled else "are left out"
            notes.append(f"{bare:,} training images carry no label and {what}")
        validated = self.rows("val")
        if not len(validated):
            notes.append("there is no validation image: nothing is measured, best.ckpt not written")
        for name, encoded in self.encoded.items():
            if len(validated) and not encoded.labelled[validated].any():
                notes.append(f"task {name} has no label in val: it is reported as absent")
        return notes
