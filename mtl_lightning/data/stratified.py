"""Splits in which each label has its share."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

Objects = npt.NDArray[np.object_]
Codes = npt.NDArray[np.int64]


def stratify(
    units: Codes,
    ranks: Sequence[int],
    columns: Mapping[str, Objects],
    shares: Sequence[float],
    needed: Sequence[int] = (),
) -> Codes:
    """Distribute units of rows by iterative stratification, over all columns of labels jointly.

    From the rarest label on, each unit with the label goes to the split that still needs most of
    it, then to the one that needs most rows (Sechidis, Tsoumakas and Vlahavas 2011, "On the
    stratification of multi-label data", algorithm 1; here for units of several rows). Having any
    text in a column also counts as a label of it; a text that occurs fewer times than there are
    splits does not. No random numbers are used.

    Args:
        units: (n,) the number of the unit of each row, from 0; units are never split.
        ranks: For each unit, its place among units that are otherwise equal.
        columns: Name to (n,) str or None.
        shares: The share of each split; they sum to 1.
        needed: Splits that get at least one unit, if there are enough.

    Returns:
        The number of the split of each unit.
    """
    sizes = np.bincount(units, minlength=len(ranks))
    own: list[list[tuple[int, int]]] = [[] for _ in ranks]
    having: list[list[tuple[int, int, int]]] = []
    names: list[tuple[str, str]] = []
    for name, of_row in _labels(columns, len(shares)).items():
        found, counts = np.unique(units[of_row], return_counts=True)
        pairs = list(zip(found.tolist(), counts.tolist(), strict=True))
        for unit, count in pairs:
            own[unit].append((len(names), count))
        having.append([(-count, ranks[unit], unit) for unit, count in pairs])
        names.append(name)
    totals = [-sum(count for count, _, _ in those) for those in having]
    wanted = [[share * total for total in totals] for share in shares]
    room = [share * len(units) for share in shares]
    out = np.full(len(ranks), -1, dtype=np.int64)
    splits = [split for split, share in enumerate(shares) if share]

    def put(unit: int, split: int) -> None:
        out[unit] = split
        room[split] -= int(sizes[unit])
        for label, count in own[unit]:
            wanted[split][label] -= count

    for label in sorted(range(len(names)), key=lambda i: (totals[i], names[i])):
        for _, _, unit in sorted(having[label]):
            if out[unit] < 0:
                put(unit, max(splits, key=lambda s: (wanted[s][label], room[s])))
    for unit in sorted(np.flatnonzero(out < 0).tolist(), key=lambda u: (-sizes[u], ranks[u])):
        put(unit, max(splits, key=lambda s: room[s]))
    _fill(out, sizes, ranks, needed)
    return out


def _labels(
    columns: Mapping[str, Objects], fewest: int
) -> dict[tuple[str, str], npt.NDArray[np.intp]]:
    """Return the rows of each label, and those with any label of each column."""
    found = {}
    for name in sorted(columns):
        codes, texts = pd.factorize(columns[name])
        if not len(texts):
            continue
        found[name, ""] = np.flatnonzero(codes >= 0)
        order = np.argsort(codes, kind="stable")[len(codes) - len(found[name, ""]) :]
        ends = np.cumsum(np.bincount(codes[order], minlength=len(texts)))
        for text, rows in zip(texts, np.split(order, ends[:-1]), strict=True):
            if len(rows) >= fewest:
                found[name, str(text)] = rows
    return found


def _fill(out: Codes, sizes: Codes, ranks: Sequence[int], needed: Sequence[int]) -> None:
    """Give each empty split that needs one a small unit of the largest split."""
    for split in needed:
        if not (out == split).any() and len(out) > len(needed):
            counts = np.bincount(out, weights=sizes)
            largest = np.flatnonzero(out == np.argmax(counts))
            if len(largest) > 1:
                out[min(largest.tolist(), key=lambda u: (sizes[u], ranks[u]))] = split
