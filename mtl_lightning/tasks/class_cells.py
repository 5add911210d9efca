"""Cells that name classes: one, a distribution over several, or the votes of annotators."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtl_lightning.system.errors import UserError, listed, quoted
from mtl_lightning.tasks.base import Encoded
from mtl_lightning.tasks.cells import canonical, doubtful, number, votes


def encode_labels(cells: NDArray[np.object_], positions: Mapping[str, int]) -> Encoded:
    """Map each cell to the position of its class: int64 targets, ``(N,)`` masks.

    If any cell is a distribution, the targets are float32 ``(N, K)``.

    Args:
        cells: ``(N,)``.
        positions: The position of each class by its canonical text.
    """
    codes, distinct = pd.factorize(cells)  # few distinct texts, many rows
    found = [positions.get(canonical(text), -1) for text in distinct]
    targets = np.array([*found, -1], dtype=np.int64)  # the last is for empty cells
    soft = {
        code: share
        for code in np.flatnonzero(targets[:-1] < 0).tolist()
        if (share := _distribution(distinct[code], positions)) is not None
    }
    readable = targets >= 0
    readable[list(soft)] = True
    labelled, bad = readable[codes], (codes >= 0) & ~readable[codes]
    hard = np.where(targets < 0, 0, targets)
    if not soft:
        return Encoded(hard[codes], labelled, bad)
    distributions = np.eye(len(positions), dtype=np.float32)[hard]
    for code, share in soft.items():
        distributions[code] = share
    return Encoded(distributions[codes], labelled, bad)


def encode_votes(cells: NDArray[np.object_], positions: Mapping[str, int]) -> Encoded:
    """Return the share of each class in the votes for a row: float32 ``(N, K)``, ``(N,)`` masks.

    Args:
        cells: ``(N, A)``, a column for each annotator, or ``(N,)`` for a single one; each names a
            class or is empty.
        positions: The position of each class by its canonical text.
    """
    columns = cells.reshape(len(cells), -1)
    counts = np.zeros((len(cells), len(positions)))
    bad = np.zeros(columns.shape, dtype=bool)
    for annotator, column in enumerate(columns.T):
        votes = class_positions(column, positions)
        bad[:, annotator] = (votes < 0) & pd.notna(column)
        rows = np.flatnonzero(votes >= 0)
        counts[rows, votes[rows]] += 1
    totals = counts.sum(1, keepdims=True)
    shares = (counts / np.maximum(totals, 1)).astype(np.float32)
    return Encoded(shares, totals[:, 0] > 0, bad.reshape(cells.shape))


def class_positions(column: NDArray[np.object_], positions: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the position of the class in each cell, ``(N,)``; -1 if it is empty or unknown."""
    codes, distinct = pd.factorize(column)  # few distinct texts, many rows
    found = [positions.get(canonical(text), -1) for text in distinct]
    return np.array([*found, -1], dtype=np.int64)[codes]


def _distribution(cell: str, positions: Mapping[str, int]) -> NDArray[np.float32] | None:
    """Read ``Dress:3|Shirt:1`` as ``(K,)`` shares; None if it is not a distribution."""
    given = votes(cell)
    if given is None or not all(name in positions for name, _ in given):
        return None
    shares = np.zeros(len(positions))
    for name, share in given:
        shares[positions[name]] += share
    with np.errstate(over="ignore"):
        total = shares.sum()
    return (shares / total).astype(np.float32) if 0 < total < np.inf else None


def named_by(cells: Iterable[str]) -> list[str]:
    """Return the distinct classes named by cells.

    If any cell is divided (``Dress:2|Shirt:1``), the unanimous ``Dress:3`` is a distribution too;
    if none is, ``12:30`` is a class as it stands.
    """
    found = {canonical(cell): votes(cell) for cell in cells}
    divided = any(shares is not None and "|" in cell for cell, shares in found.items())
    names = (
        [name for name, _ in shares] if divided and shares is not None else [cell]
        for cell, shares in found.items()
    )
    return list(dict.fromkeys(name for each in names for name in each))


def refuse_doubtful(classes: Sequence[str]) -> None:
    """Raise a UserError if a label may also stand for a missing one: the user has to decide."""
    found = doubtful(classes)
    if found:
        shown = quoted(found[0])
        raise UserError(
            f"the label {shown} may be a class or a missing label: name it in the task's classes "
            f"(`classes: [{listed(in_order(classes))}]`), or in the source's `missing` "
            f"(`missing: [{shown}]`)"
        )


def in_order(classes: Iterable[str]) -> list[str]:
    """Sort classes as numbers if all are numbers (2 before 10), as text otherwise."""
    names = sorted(classes)  # "1" and "01" are one number: their order must not depend on the rows
    values = {name: value for name in names if (value := number(name)) is not None}
    return sorted(names, key=values.__getitem__) if len(values) == len(names) else names
