"""Which rows go through the network together, and which backward passes they get.

A pass that carries one derivative a row serves every task at once, as long as each row is of one
task. A row with m labels needs m passes. Rows are therefore put together by how many labels they
have, so that m passes are made of those with m: together as much as the batch has labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_lightning.balancing.gradients.per_row import Rows

ONE_MORE_PASS = 8
"""So many rows through a network cost about what a pass of its own costs beyond its rows."""

FEW = 4
"""Sets of labels that fewer rows than this have go through the network together."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Segment:
    """Rows that go through the network together.

    Attributes:
        rows: (n,) int64, which rows of the batch.
        passes: For each backward pass, (number of a task, its rows among these).
    """

    rows: Tensor
    passes: list[list[tuple[int, Rows]]]


def by_rows(labelled: Mask) -> list[Segment]:
    """Divide a batch, where one pass may serve several tasks.

    Args:
        labelled: (B, n), which row has a label of which of n tasks.
    """
    counts = labelled.sum(1)
    found = [int(m) for m in np.unique(counts) if m]
    together: list[list[int]] = []
    for most in found:  # ascending: rows of `together[-1]` have fewer labels than `most`
        if together:
            fewer = np.isin(counts, together[-1])
            if int(fewer.sum()) * (most - max(together[-1])) <= ONE_MORE_PASS:
                together[-1].append(most)
                continue
        together.append([most])
    return [_segment(labelled, np.flatnonzero(np.isin(counts, group))) for group in together]


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
        passes.append([(task, _stretch(positions)) for task, positions in of_task.items()])
    return Segment(torch.from_numpy(rows[order]), passes)


def by_sets(labelled: Mask) -> list[Segment]:
    """Divide a batch, where a pass serves one task: rows with the same labels go together.

    Args:
        labelled: (B, n), which row has a label of which of n tasks.
    """
    sets: dict[tuple[int, ...], list[int]] = {}
    for row, own in enumerate(labelled):
        if own.any():
            sets.setdefault(tuple(int(t) for t in np.flatnonzero(own)), []).append(row)
    groups = [(list(own), rows) for own, rows in sets.items() if len(rows) >= FEW]
    rest = [(own, rows) for own, rows in sets.items() if len(rows) < FEW]
    if rest:
        union = sorted({task for own, _ in rest for task in own})
        groups.append((union, [row for _, rows in rest for row in rows]))
    return [together(rows, tasks) for tasks, rows in groups]


def together(rows: Sequence[int], tasks: Sequence[int]) -> Segment:
    """Return one segment of these rows, with a pass of all of them for each task."""
    return Segment(torch.tensor(rows), [[(task, slice(0, len(rows)))] for task in tasks])


def _stretch(positions: list[int]) -> Rows:
    if positions[-1] - positions[0] + 1 == len(positions):
        return slice(positions[0], positions[-1] + 1)
    return torch.tensor(positions)
