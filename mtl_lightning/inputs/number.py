"""A number."""

from collections.abc import Hashable
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_lightning.inputs.base import EncodedInput, Input
from mtl_lightning.models.inputs import NUMBERS
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.cells import number

CLIP = 3.0
"""Robust values are squeezed into (-3, 3), as in Holzmueller et al., "Better by Default: Strong
Pre-Tuned MLPs and Boosted Trees on Tabular Data", NeurIPS 2024."""
LARGEST = float(np.finfo(np.float32).max)
"""The largest number that a network reads."""

Values = TypeVar("Values", NDArray[np.float64], Tensor)


class Number(Input):
    """A column of numbers, in units of the training rows' spread.

    A missing number stays missing (NaN): the network has an input for it, and no value is filled
    in.

    Args:
        robust: Use the median and the interquartile range instead of mean and standard deviation,
            and squeeze outliers smoothly into (-3, 3).
        centre: The value that becomes 0; by default computed from the training rows.
        scale: The difference that becomes 1, above 0; likewise.
        bins: The number of intervals with equally many training rows, for a backbone that asks for
            them (``TableMLP`` with ``numbers: piecewise``).
        edges: The ends of these intervals, rising, of standardised numbers; likewise.

    Raises:
        UserError: If ``scale`` is not above 0, or one of the two is given alone; or there cannot be
            so many bins, or such edges.
    """

    tensor: ClassVar[str] = NUMBERS

    def __init__(
        self,
        robust: bool = False,
        centre: float | None = None,
        scale: float | None = None,
        bins: int = 0,
        edges: list[float] | None = None,
    ) -> None:
        check_scale(centre, scale)
        if bins < 0:
            raise UserError(f"bins should be 0 or more. Found {bins}")
        if edges is not None and (len(edges) < 2 or sorted(set(edges)) != list(edges)):
            raise UserError(f"edges should be two or more rising numbers. Found {edges}")
        self.robust = robust
        self.bins = bins
        self._edges = edges
        self.centre = centre
        self.scale = scale

    @property
    def width(self) -> int:
        """One number."""
        return 1

    @property
    def is_known(self) -> bool:
        """Whether centre and scale are known, and the edges of bins if there are any."""
        return self.centre is not None and (self._edges is not None or not self.bins)

    @property
    def edges(self) -> tuple[tuple[float, ...], ...]:
        """The edges of the bins of the number."""
        return (tuple(self._edges or ()),)

    def learn(self, cells: NDArray[np.object_]) -> None:
        """Compute centre and scale, and the edges of bins."""
        if self.centre is None:
            self.centre, self.scale = spread(_numbers(cells), self.robust)
        if self.bins and self._edges is None:
            values = self.encode(cells).values[:, 0].astype(np.float64)
            values = values[np.isfinite(values)]
            shares = np.linspace(0, 1, self.bins + 1)
            ends = np.quantile(values, shares) if len(values) else np.zeros(1)
            edges = np.unique(ends.astype(np.float32))  # as the network reads them
            if len(edges) < 2:  # of a column of one value, a bin of width 1
                above = np.nextafter(edges[0], np.float32(np.inf))
                edges = np.append(edges, max(edges[0] + 1, above))
            self._edges = edges.tolist()

    def read(self, cells: NDArray[np.object_]) -> EncodedInput:
        """Return the numbers; a cell that is no finite number is bad."""
        values = _numbers(cells)
        standard = standardised(values, self.centre, self.scale)
        largest = np.maximum(np.abs(values), np.abs(standard))
        bad = pd.notna(cells) & ~(largest <= LARGEST)
        return EncodedInput(np.where(bad, np.nan, values), bad)

    def transform(self, values: Tensor) -> Tensor:
        """Standardise numbers: (N,) float64 to (N, 1) float32."""
        values = standardised(values, self.centre, self.scale)
        if self.robust:
            values = values / (1 + (values / CLIP) ** 2).sqrt()
        return values.to(torch.float32)[:, None]

    def unit(self) -> str:
        """Numbers in their own unit."""
        return "the number as in the table (float64), NaN for a missing one"

    def example(self, rows: int, draw: np.random.Generator) -> NDArray[np.generic]:
        """Return numbers as far apart as the training rows', the last of which is missing."""
        return example_numbers(rows, draw, self.centre, self.scale)

    def expected(self) -> str:
        """Ask for a number."""
        return (
            'a finite number (up to 3.4e38, with a decimal point; or set `decimal: ","` in the '
            "source)"
        )

    def identity(self) -> dict[str, Any]:
        """Return how numbers are standardised."""
        return {
            "robust": self.robust,
            "centre": self.centre,
            "scale": self.scale,
            "bins": self.bins,
            "edges": self._edges,
        }

    def meaning(self, cell: str) -> Hashable:
        """Return the number, if the cell is one."""
        value = number(cell)
        return cell if value is None else value


def _numbers(cells: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return cells as numbers, NaN for those that are missing or none."""
    values = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce")
    numbers: NDArray[np.float64] = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers


def check_scale(centre: float | None, scale: float | None) -> None:
    """Refuse a scale that is not above 0, a centre that is no number, and one without the other.

    Raises:
        UserError: If one of them is wrong.
    """
    if (centre is None) != (scale is None):
        raise UserError(
            f"centre and scale should both be given, or both be left out. Found centre {centre} "
            f"and scale {scale}"
        )
    if scale is not None and not 0 < scale < float("inf"):
        raise UserError(f"scale should be above 0. Found {scale}")
    if centre is not None and not np.isfinite(centre):
        raise UserError(f"centre should be a number. Found {centre}")


def spread(values: NDArray[np.float64], robust: bool) -> tuple[float, float]:
    """Return centre and scale of values, without those that are NaN or too large; else (0, 1).

    Where all are the same, the scale is 1.
    """
    values = values[np.abs(values) <= LARGEST]
    if not len(values):
        return 0.0, 1.0
    if robust:
        low, centre, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        scale = high - low or float(values.std())
    else:
        centre, scale = float(values.mean()), float(values.std())
    same = bool((values == values[0]).all())  # whose deviation may be rounded to above 0
    return centre, 1.0 if same or not scale else scale


def standardised(values: Values, centre: float | None, scale: float | None) -> Values:
    """Return ``(values - centre) / scale``."""
    assert centre is not None  # checked when the data are set up
    assert scale is not None
    result: Values = (values - centre) / scale
    return result


def example_numbers(
    rows: int, draw: np.random.Generator, centre: float | None, scale: float | None
) -> NDArray[np.float64]:
    """Return normally distributed numbers, (rows,) float64, the last of which is NaN."""
    values = draw.normal(size=rows) * (scale or 1) + (centre or 0)
    values[-1] = np.nan
    return values
