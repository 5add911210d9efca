"""The division of a batch into segments that pass through the network, and their backward passes.

A backward pass that carries one derivative per row serves several tasks at once, as long as each
row belongs to one of them. A row with m labels needs m passes. Rows are therefore grouped by their
number of labels, so that rows with m labels get m passes: in all, as many as the batch has labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_lightning.balancing.gradients.per_row import Rows

ONE_MORE_PASS = 8
"""The number of rows whose backward pass costs about as much as the overhead of one more pass."""

FEW = 4
"""Rows whose set of labels occurs less often than this pass through the network as one segment."""

Mask = NDArray[np.bool_]

Mode = Literal["rows", "label_sets", "tasks"]
"""``rows``: one pass serves all tasks that share no row. ``label_sets``: images do not mix, so that
those with the same labels can pass through the network by themselves. ``tasks``: each task needs a
backward pass of all rows."""


@dataclass(frozen=True)
class Segment:
    """Rows that pass through the network at once.

    Attributes:
        rows: (n,) int64, which rows of the batch.
        passes: For each backward pass, pairs of a task's index and its rows within the segment.
    """

    rows: Tensor
    passes: list[list[tuple[int, Rows]]]


def divide(labelled: Mask, mode: Mode) -> list[Segment]:
    """Divide a batch as the mode allows.

    Args:
        labelled: (B, n), which row has a label of which of n tasks.
        mode: How gradients of single rows can be computed.
    """
    if mode == "tasks":
        return [all_rows(range(len(labelled)), range(labelled.shape[1]))]
    return by_rows(labelled) if mode == "rows" else by_label_sets(labelled)


def by_rows(labelled: Mask) -> list[Segment]:
    """Divide a batch for passes that serve several tasks; see `divide`."""
    counts = labelled.sum(1)
    groups: list[list[int]] = []  # of numbers of labels
    for most in [int(m) for m in np.unique(counts) if m]:  # ascending
        if groups:
            fewer = np.isin(counts, groups[-1])
            if int(fewer.sum()) * (most - max(groups[-1])) <= ONE_MORE_PASS:
                groups[-1].append(most)
                continue
        groups.append([most])
    return [_segment(labelled, np.flatnonzero(np.isin(counts, group))) for group in groups]


def _segment(labelled: Mask, rows: NDArray[np.int64]) -> Segment:
    tasks = [tuple(np.flatnonzero(labelled[row])) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (len(tasks[i]), tasks[i], i))
    tasks = [tasks[i] for i in order]
    passes = []
    for number in range(max(len(own) for own in tasks)):
        of_task: dict[int, list[int]] = {}
        for position, own in enumerate(tasks):
            if number < len(own):
                of_task.setdefault(int(own[number]), []).append(position)
        passes.append([(task, _as_slice(positions)) for task, positions in of_task.items()])
    return Segment(torch.from_numpy(rows[order]), passes)


def by_label_sets(labelled: Mask) -> list[Segment]:
    """Divide a batch into rows with the same labels, for passes that serve one task each."""
    sets: dict[tuple[int, ...], list[int]] = {}
    for row, own in enumerate(labelled):
        if own.any():
            sets.setdefault(tuple(int(t) for t in np.flatnonzero(own)), []).append(row)
    groups = [(list(own), rows) for own, rows in sets.items() if len(rows) >= FEW]
    rest = [(own, rows) for own, rows in sets.items() if len(rows) < FEW]
    if rest:
        union = sorted({task for own, _ in rest for task in own})
        groups.append((union, [row for _, rows in rest for row in rows]))
    return [all_rows(rows, tasks) for tasks, rows in groups]


def all_rows(rows: Sequence[int], tasks: Sequence[int]) -> Segment:
    """Return one segment of these rows, with a pass of all of them for each task."""
    return Segment(torch.tensor(rows), [[(task, slice(0, len(rows)))] for task in tasks])


def _as_slice(positions: list[int]) -> Rows:
    """Return ascending positions as a slice if they are contiguous, else as a tensor."""
    if positions[-1] - positions[0] + 1 == len(positions):
        return slice(positions[0], positions[-1] + 1)
    return torch.tensor(positions)
