"""The split of each image: by name, by group, else by fraction."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.data.dates import Dates, date_text
from mtl_lightning.data.stratified import stratify
from mtl_lightning.data.train_classes import Occurrences, keep_in_train
from mtl_lightning.system.errors import (
    UserError,
    did_you_mean,
    listed,
    quoted,
)

SPLITS = ("train", "val", "test")
"""The splits; their positions here are the codes in arrays."""

SPELLINGS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Common names of the splits, in lower case."""

Splits = npt.NDArray[np.int8]
Objects = npt.NDArray[np.object_]
Rows = npt.NDArray[np.int64]
By: TypeAlias = Literal["random", "date"]
"""How rows without a named split are divided."""

OnContradiction = Callable[[str, str], None]
"""Called with the subject of a contradiction (``split``) and its message."""


def raise_contradiction(about: str, message: str) -> None:
    """Raise the contradiction as a UserError, as all callers but the audit do."""
    del about
    raise UserError(message)


class Assignment(NamedTuple):
    """A split for every row.

    Attributes:
        splits: (N,) int8, positions in `SPLITS`.
        val_from_train: Whether `val` had to be taken from rows that a table names train.
    """

    splits: Splits
    val_from_train: bool


def assign(
    named: Objects,
    groups: Objects | None,
    keys: Objects,
    fractions: Mapping[str, float],
    seed: int,
    location: Callable[[int], str] = "row {}".format,
    on_contradiction: OnContradiction = raise_contradiction,
    labels: Mapping[str, Objects] | None = None,
    classes: Callable[[], Occurrences] | None = None,
    dates: Dates | None = None,
) -> Assignment:
    """Return a split for every row, the same on all machines and in any order of the rows.

    Named rows keep their split, and a group with a named row pulls its other rows along. The other
    rows are divided by ``fractions``, in units of groups (or keys, without groups): the units are
    ordered by a hash and cut where the count of rows is reached; each split without a row so far
    gets at least one unit if there are enough. If nothing was left to divide and `val` is empty,
    its fraction is taken from train in the same way.

    With ``dates``, the units are dates instead, of which the latest are `test` and those before are
    `val`; a group has the date of its latest row. So no row of `train` is as late as the latest of
    any unit of `val` or `test`.

    Args:
        named: (N,) ``train``, ``val``, ``test`` or None.
        groups: (N,) str or None: rows of one group stay in one split. None if there are no groups.
        keys: (N,) str: identifies a row on all machines; rows of one key stay in one split.
        fractions: Share of `val` and `test`; train is the rest.
        seed: The seed of the hash.
        location: Returns the place of a row for messages.
        on_contradiction: Called for each group in two named splits; if it returns, the rows of the
            group keep their named splits.
        labels: Name to (N,) str or None: give each split its share of each label, see `stratify`,
            instead of dividing by the hash alone.
        classes: Finds the classes of all rows, which train should have; see `keep_in_train`. Not
            used with ``dates``.
        dates: (N,) divide by date; without `labels`.

    Returns:
        The splits, and whether `val` was taken from train.

    Raises:
        UserError: If ``fractions`` are invalid, a group is in two named splits, or a row to divide
            has no date, or all have too few.
    """
    check_fractions(fractions)
    splits = np.full(len(keys), -1, dtype=np.int8)
    for code, name in enumerate(SPLITS):
        splits[named == name] = code
    if groups is not None:
        _pull_along(splits, groups, location, on_contradiction)
    units = _units(groups, keys)

    def draw(rows: Rows, shares: Mapping[str, float], filled: Collection[int]) -> None:
        if dates is not None:
            splits[rows] = _by_date(units[rows], dates[rows], shares, filled)
            return
        own = None if labels is None else {name: cells[rows] for name, cells in labels.items()}
        codes, names = pd.factorize(units[rows])
        order = np.argsort(hashed(names, seed), kind="stable")
        splits[rows] = _divide(codes, order, shares, filled, own)
        if classes is not None and rows.size:
            ranks = np.argsort(order).tolist()
            keep_in_train(splits, rows, codes, ranks, classes(), SPLITS.index("train"))

    rest = np.flatnonzero(splits < 0)
    if dates is not None:
        _check_dates(dates, rest, location, "neither a date nor a split")
    draw(rest, fractions, set(splits.tolist()))
    val = SPLITS.index("val")
    if rest.size or not fractions.get("val") or (splits == val).any():
        return Assignment(splits, val_from_train=False)
    train = np.flatnonzero(splits == SPLITS.index("train"))
    if dates is not None:
        _check_dates(dates, train, location, "no date, and val is taken from train")
    draw(train, {"val": fractions["val"]}, ())
    return Assignment(splits, val_from_train=bool((splits == val).any()))


def divided_by(splits: Mapping[str, float | By]) -> tuple[By, dict[str, float]]:
    """Return how ``data.splits`` divides rows, and the shares of `val` and `test`."""
    by: By = "random"
    fractions: dict[str, float] = {}
    for name, value in splits.items():
        if name == "by":
            if value not in get_args(By):
                raise UserError(f"splits: by should be {' or '.join(get_args(By))}. Found {value}")
            by = cast("By", value)
        elif isinstance(value, str):
            raise UserError(f"splits: {name} should be a fraction in 0..1. Found {value}")
        else:
            fractions[name] = value
    return by, fractions


def check_fractions(fractions: Mapping[str, float]) -> None:
    """Raise a UserError unless ``fractions`` are shares of val and test that leave some train."""
    for name, fraction in fractions.items():
        if name == "train":
            raise UserError('splits: "train" is the rest; leave it out')
        if name not in SPLITS:
            raise UserError(
                f'splits should name val and test. Found "{name}"{did_you_mean(name, SPLITS)}'
            )
        if not 0 <= fraction < 1:
            raise UserError(
                f"splits: {name} should be a fraction in 0..1 (1 excluded). Found {fraction}"
            )
    if sum(fractions.values()) >= 1:
        shares = listed(f"{name} {fraction}" for name, fraction in fractions.items())
        raise UserError(f"splits: {shares} leave nothing to train; their sum should be below 1")


def hashed(names: Iterable[str], seed: int) -> npt.NDArray[np.uint64]:
    """Return a number for each name that depends on nothing but it and the seed: (N,) uint64."""
    prefix = f"{seed}:".encode()
    digests = (
        # File names need not be valid Unicode.
        blake2b(prefix + name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        for name in names
    )
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)


def _pull_along(
    splits: Splits,
    groups: Objects,
    location: Callable[[int], str],
    on_contradiction: OnContradiction,
) -> None:
    """Extend named splits over their groups, in place."""
    codes, names = pd.factorize(groups)
    rows = np.flatnonzero((splits >= 0) & (codes >= 0))
    first = np.full(len(names), -1, dtype=np.int64)
    first[codes[rows[::-1]]] = rows[::-1]  # for equal positions, the last assignment wins
    clash = rows[splits[rows] != splits[first[codes[rows]]]]
    for row in sorted(clash[np.unique(codes[clash], return_index=True)[1]].tolist()):
        other = int(first[codes[row]])
        on_contradiction(
            "group",
            f"group {quoted(groups[row])} is in two splits: {location(other)} says "
            f"{SPLITS[splits[other]]}, {location(row)} says {SPLITS[splits[row]]}; "
            "expected a group to be in one split",
        )
    pulled = np.flatnonzero((splits < 0) & (codes >= 0))
    pulled = pulled[first[codes[pulled]] >= 0]
    splits[pulled] = splits[first[codes[pulled]]]


def _units(groups: Objects | None, keys: Objects) -> Objects:
    """Return the units that may not be split: a row's group, else its key."""
    units = np.empty(len(keys), dtype=object)
    if groups is None:
        units[:] = ["image:" + key for key in keys]
    else:
        units[:] = [
            "image:" + key if group is None else "group:" + group
            for group, key in zip(groups, keys, strict=True)
        ]
    return units


def _divide(
    codes: Rows,
    order: Rows,
    fractions: Mapping[str, float],
    filled: Collection[int],
    labels: Mapping[str, Objects] | None,
) -> Splits:
    """Divide rows, given their units; splits not in ``filled`` get one unit at least.

    Args:
        codes: The number of the unit of each row.
        order: The units in the order in which they are assigned.
        fractions: See `assign`.
        filled: The splits that have rows.
        labels: See `assign`.
    """
    if labels is not None:
        shares = [fractions.get(name, 0.0) for name in SPLITS]
        shares[SPLITS.index("train")] = 1 - sum(shares)
        needed = [code for code, share in enumerate(shares) if share and code not in filled]
        ranks = np.argsort(order).tolist()
        return stratify(codes, ranks, labels, shares, needed)[codes].astype(np.int8)
    wanted = [code for code, name in enumerate(SPLITS) if fractions.get(name)]
    return _cut(codes, order, fractions, filled, wanted)


def _cut(
    codes: Rows,
    order: Rows,
    fractions: Mapping[str, float],
    filled: Collection[int],
    wanted: Sequence[int],
) -> Splits:
    """Cut ordered units into the ``wanted`` splits, one after the other, and train; see `_divide`.

    A unit belongs to the split in which its middle falls.
    """
    sizes = np.bincount(codes, minlength=len(order))
    middles = np.cumsum(sizes[order]) - sizes[order] / 2
    empty = [code for code in wanted if code not in filled]
    spare = len(order) > len(empty)
    of_unit = np.full(len(order), SPLITS.index("train"), dtype=np.int8)
    start, share = 0, 0.0
    for position, code in enumerate(wanted):
        share += fractions[SPLITS[code]]
        stop = int((middles < np.floor(share * len(codes) + 0.5)).sum())
        if spare:
            later = sum(other in empty for other in wanted[position + 1 :])
            stop = max(stop, start + (code in empty))
            stop = min(stop, len(order) - 1 - later)
        stop = max(stop, start)
        of_unit[order[start:stop]] = code
        start = stop
    return of_unit[codes]


def _by_date(
    units: Objects, dates: Dates, fractions: Mapping[str, float], filled: Collection[int]
) -> Splits:
    """Divide rows by date: the latest are `test`, those before `val`; see `assign`."""
    codes, names = pd.factorize(units)
    latest = np.full(len(names), np.iinfo(np.int64).min)
    np.maximum.at(latest, codes, dates.astype(np.int64))
    distinct, of_row = np.unique(latest[codes], return_inverse=True)
    wanted = [code for code, name in enumerate(SPLITS) if fractions.get(name)][::-1]
    if 0 < len(distinct) <= len(set(wanted) - set(filled)):
        last = date_text(distinct[-1:].astype("datetime64[us]")[0])
        raise UserError(
            f"splits: {{by: date}} should have more dates to divide than splits to fill. Found "
            f"{len(distinct)} (the last is {last}), where a group has the date of its latest row; "
            "name the splits in a column, or leave the groups out"
        )
    order = np.arange(len(distinct))[::-1]
    return _cut(of_row.astype(np.int64), order, fractions, filled, wanted)


def _check_dates(dates: Dates, rows: Rows, location: Callable[[int], str], lacking: str) -> None:
    missing = rows[np.isnat(dates[rows])]
    if missing.size:
        if np.isnat(dates).all():
            raise UserError(
                "splits: {by: date} needs a source that names its column of dates. Found none; "
                "set `date: COLUMN` in it"
            )
        more = f" ({len(missing):,} rows like this)" if len(missing) > 1 else ""
        raise UserError(
            f"{location(int(missing[0]))} has {lacking}{more}; expected a date, "
            "for data.splits divides by date"
        )
