"""Random splits that keep every class in train, without which it cannot be learned."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.data.fields import Field

Numbers = npt.NDArray[np.int64]

LEAST_LEFT = 0.5
"""Least share of its rows that a split keeps, however many classes only it has."""


class Occurrences(NamedTuple):
    """Pairs of rows and their classes.

    Attributes:
        rows: (P,) positions of rows.
        classes: (P,) numbers of classes, over all tasks, in the order of their names.
    """

    rows: Numbers
    classes: Numbers

    @classmethod
    def of(
        cls, cells: Mapping[str, npt.NDArray[np.object_]], columns: Mapping[str, Field]
    ) -> "Occurrences":
        """Find the classes named by cells.

        Args:
            cells: Column to its (N,) cells, str or None.
            columns: The columns; a task may have no classes.
        """
        numbers: dict[tuple[str, str], int] = {}
        rows, classes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for column, field in columns.items():
            if not field.named_classes([""]):
                continue
            codes, distinct = pd.factorize(cells[column])
            named = field.named_classes(distinct.tolist())
            for position in range(max(map(len, named), default=0)):
                of_text = [
                    numbers.setdefault((field.task_name, names[position]), len(numbers))
                    if position < len(names)
                    else -1
                    for names in named
                ]
                of_row = np.array([*of_text, -1], dtype=np.int64)[codes]
                rows.append(np.flatnonzero(of_row >= 0))
                classes.append(of_row[rows[-1]])
        places = np.empty(len(numbers), dtype=np.int64)
        places[[numbers[name] for name in sorted(numbers)]] = np.arange(len(numbers))
        return cls(np.concatenate(rows), places[np.concatenate(classes)])


def keep_in_train(
    splits: npt.NDArray[np.int8],
    drawn: Numbers,
    units: Numbers,
    ranks: Sequence[int],
    found: Occurrences,
    train: int = 0,
) -> None:
    """Move units of random rows to train, in place, until train has every class that it can.

    For each unit that moves, one of about the same size moves back, if train can spare it.

    Args:
        splits: (N,) the split of each row.
        drawn: (n,) the rows that were split at random.
        units: (n,) the number of the unit of each; units are never split.
        ranks: For each unit, its place among units that are otherwise equal.
        found: The classes of all rows.
        train: The number of this split.
    """
    count = int(found.classes.max(initial=-1)) + 1
    in_train = np.bincount(found.classes[splits[found.rows] == train], minlength=count)
    unit_of = np.full(len(splits), -1, dtype=np.int64)
    unit_of[drawn] = units
    movable = unit_of[found.rows] >= 0
    lacking = np.unique(found.classes[movable])
    lacking = lacking[in_train[lacking] == 0]
    if lacking.size:
        pairs = np.stack([unit_of[found.rows[movable]], found.classes[movable]], axis=1)
        of_unit = np.full(len(ranks), -1, dtype=np.int64)
        of_unit[units] = splits[drawn]
        sizes = np.bincount(units, minlength=len(ranks))
        _Exchange(of_unit, sizes, ranks, pairs, in_train, train).settle(lacking.tolist())
        splits[drawn] = of_unit[units]


class _Exchange:
    """Swaps units between train and the other splits."""

    def __init__(
        self,
        of_unit: Numbers,
        sizes: Numbers,
        ranks: Sequence[int],
        pairs: Numbers,
        in_train: Numbers,
        train: int,
    ) -> None:
        self.of_unit, self.sizes, self.ranks, self.train = of_unit, sizes, ranks, train
        self.in_train = in_train  # rows of each class in train
        # One number for a unit and a class, since a table may have millions of such pairs.
        count = len(in_train)
        found, self.counts = np.unique(pairs[:, 0] * count + pairs[:, 1], return_counts=True)
        self.units, self.labels = found // count, found % count
        self.starts = np.searchsorted(self.units, np.arange(len(of_unit) + 1))
        self.rows_of = np.bincount(of_unit, weights=sizes, minlength=3)
        self.least = LEAST_LEFT * self.rows_of
        spare = np.flatnonzero(of_unit == train)
        spare = spare[np.lexsort((-np.asarray(ranks)[spare], sizes[spare]))]
        values, starts = np.unique(sizes[spare], return_index=True)
        parts = np.split(spare, starts)[1:]
        # By size, the first rank last.
        self.spare: dict[int, list[int]] = {
            int(v): part.tolist() for v, part in zip(values, parts, strict=True)
        }

    def settle(self, lacking: Sequence[int]) -> None:
        """Move a unit of each class that is not in train, if a split can spare it."""
        wanted = np.isin(self.labels, lacking)
        having: dict[int, list[int]] = {label: [] for label in lacking}
        for label, unit in zip(self.labels[wanted], self.units[wanted], strict=True):
            having[int(label)].append(int(unit))
        for label in lacking:
            units = sorted(having[label], key=lambda u: (self.sizes[u], self.ranks[u]))
            for unit in units if not self.in_train[label] else ():
                if self._taken(unit):
                    break

    def _taken(self, unit: int) -> bool:
        split, size = int(self.of_unit[unit]), int(self.sizes[unit])
        self._put(unit, self.train)
        other = self._spared(size)
        if other is not None:
            self._put(other, split)
        elif self.rows_of[split] < max(1, self.least[split]):
            self._put(unit, split)
            return False
        return True

    def _put(self, unit: int, split: int) -> None:
        before = int(self.of_unit[unit])
        self.of_unit[unit] = split
        self.rows_of[before] -= self.sizes[unit]
        self.rows_of[split] += self.sizes[unit]
        sign = (split == self.train) - (before == self.train)
        labels, rows = self._classes(unit)
        self.in_train[labels] += sign * rows

    def _classes(self, unit: int) -> tuple[Numbers, Numbers]:
        """Return the classes of a unit, and the number of its rows of each."""
        own = slice(self.starts[unit], self.starts[unit + 1])
        return self.labels[own], self.counts[own]

    def _spared(self, size: int) -> int | None:
        """Return a unit of train of about that size, all of whose classes others in train have."""
        for near in sorted(self.spare, key=lambda other: (abs(other - size), other)):
            while self.spare[near] and abs(near - size) <= size // 2:
                unit = self.spare[near].pop()  # each is tried once, which keeps the time linear
                labels, rows = self._classes(unit)
                if (self.in_train[labels] > rows).all():
                    return unit
        return None
