"""Scanned handwritten digits that come with scikit-learn: a first run without a download."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.kinds import checked_kinds
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.data.splits import hashed

_VAL, _TEST = 0.1, 0.2


class DigitsSource(Source):
    """The 1797 scans of 8 x 8 pixels of `sklearn.datasets.load_digits`.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.

    There are three kinds of labels: ``digit`` (``0`` to ``9``), ``parity`` (``even``, ``odd``)
    and, for regression, ``ink`` (the mean darkness of the scan, 0 to 1). Of each digit, 10 % are
    val and 20 % test, drawn with the seed.

    Args:
        missing: Task to the fraction of its *training* labels to leave out, to try how a network
            learns from partial labels; val and test keep all of theirs.
        seed: The seed of the splits and of the labels left out.
        labels: Task to one of the three kinds; by default the tasks of these names.
    """

    def __init__(
        self,
        missing: dict[str, float] | None = None,
        seed: int = 0,
        labels: dict[str, str] | None = None,
    ) -> None:
        self.missing = missing or {}
        self.seed = seed
        self.labels = labels

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Compute the labels; see `Source.read`."""
        kinds = checked_kinds("digits", _KINDS, tasks, self.labels, self.missing)
        _, digits = _scans()
        keys = texts([f"digits:{i}" for i in range(len(digits))])
        splits = self._splits(digits, keys)
        labels = {task: _KINDS[kind]() for task, kind in kinds.items() if task in tasks}
        train = np.flatnonzero(splits == "train")
        for task, fraction in self.missing.items():
            if task in labels:
                # The task's name keeps the labels left out for two tasks independent.
                order = np.argsort(hashed((f"{task}:{key}" for key in keys[train]), self.seed))
                labels[task][train[order[: round(fraction * len(train))]]] = None
        return SourceTable("digits", images=keys, keys=keys, labels=labels, splits=splits)

    def load(self, image: str) -> npt.NDArray[np.uint8]:
        """Return a scan as (8, 8, 3) RGB, uint8; ink is bright, as in scikit-learn."""
        scans, _ = _scans()
        grey = np.rint(scans[int(image.removeprefix("digits:"))] * (255 / 16)).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)

    def _splits(self, digits: npt.NDArray[np.int64], keys: Texts) -> Texts:
        splits = texts(["train"] * len(digits))
        order = np.argsort(hashed(keys, self.seed))
        for digit in range(10):
            rows = order[digits[order] == digit]
            val, test = round(_VAL * len(rows)), round((_VAL + _TEST) * len(rows))
            splits[rows[:val]] = "val"
            splits[rows[val:test]] = "test"
        return splits


@cache
def _scans() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the scans, (1797, 8, 8) in 0..16, and their digits, (1797,)."""
    from sklearn.datasets import load_digits  # half a second, which other sources should not pay

    data = load_digits()
    return data.images, data.target


def _digit() -> Texts:
    return texts([str(digit) for digit in _scans()[1].tolist()])


def _parity() -> Texts:
    return texts([("even", "odd")[digit % 2] for digit in _scans()[1].tolist()])


def _ink() -> Texts:
    return texts([str(ink) for ink in (_scans()[0].mean(axis=(1, 2)) / 16).tolist()])


_KINDS: dict[str, Callable[[], Texts]] = {"digit": _digit, "parity": _parity, "ink": _ink}
