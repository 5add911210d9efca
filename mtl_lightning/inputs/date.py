"""A date, or a moment."""

import math
from collections.abc import Hashable
from datetime import datetime, timezone
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_lightning.inputs.base import EncodedInput, Input
from mtl_lightning.inputs.number import check_scale, example_numbers, spread, standardised
from mtl_lightning.models.inputs import NUMBERS
from mtl_lightning.system.errors import UserError, did_you_mean, listed
from mtl_lightning.tasks.cells import moments

Cycle = Literal["year", "week", "day"]
DAYS: dict[str, float] = {"year": 365.2425, "week": 7.0, "day": 1.0}
"""The length of each cycle."""


class Date(Input):
    """A column of dates: a linear part for trends, and a sine and a cosine for each cycle.

    The linear part is in units of the training rows' standard deviation. In the cycles, the last
    day of a year is next to the first. Moments with a time zone are compared in UTC, which is also
    that of those without.

    Args:
        cycles: The cycles, of ``year``, ``week`` and ``day`` (for moments).
        format: How dates are written, as in Python's ``strptime``: ``"%d.%m.%Y"``. By default ISO
            8601: ``2024-03-01``, ``2024-03-01T12:30``.
        centre: The days since 1970 that become 0; by default the mean of the training rows.
        scale: The days that become 1; by default their standard deviation.

    Raises:
        UserError: If there is no such cycle, or ``scale`` is not above 0.
    """

    tensor: ClassVar[str] = NUMBERS

    def __init__(
        self,
        cycles: list[Cycle] | None = None,
        format: str | None = None,  # noqa: A002 - as pandas calls it
        centre: float | None = None,
        scale: float | None = None,
    ) -> None:
        check_scale(centre, scale)
        self.cycles: list[Cycle] = ["year", "week"] if cycles is None else list(cycles)
        for cycle in self.cycles:
            if cycle not in get_args(Cycle):
                raise UserError(
                    f"cycles should be of {listed(get_args(Cycle))}. "
                    f'Found "{cycle}"{did_you_mean(cycle, get_args(Cycle))}'
                )
        self.format = format
        self.centre = centre
        self.scale = scale

    @property
    def width(self) -> int:
        """One number, and two for each cycle."""
        return 1 + 2 * len(self.cycles)

    @property
    def is_known(self) -> bool:
        """Whether centre and scale are known."""
        return self.centre is not None

    def learn(self, cells: NDArray[np.object_]) -> None:
        """Compute centre and scale of the linear part."""
        if not self.is_known:
            self.centre, self.scale = spread(self._days(cells), robust=False)

    def read(self, cells: NDArray[np.object_]) -> EncodedInput:
        """Return the days since 1970; a cell that is no date is bad."""
        days = self._days(cells)
        return EncodedInput(days, pd.notna(cells) & np.isnan(days))

    def transform(self, values: Tensor) -> Tensor:
        """Return the linear part and the cycles: (N,) float64 to (N, width) float32."""
        parts = [standardised(values, self.centre, self.scale)]
        for cycle in self.cycles:
            angle = 2 * math.pi * (values / DAYS[cycle] % 1)
            parts += [angle.sin(), angle.cos()]
        return torch.stack(parts, dim=1).to(torch.float32)

    def unit(self) -> str:
        """Days."""
        return "days since 1970-01-01T00:00 in UTC (float64), NaN for a missing date"

    def example(self, rows: int, draw: np.random.Generator) -> NDArray[np.generic]:
        """Return days as far apart as the training rows', the last of which is missing."""
        return example_numbers(rows, draw, self.centre, self.scale)

    def expected(self) -> str:
        """Ask for a date in the format."""
        if self.format is None:
            return "a date as 2024-03-01 or 2024-03-01T12:30 (others: set its `format`)"
        return f"a date in the format {self.format}"

    def identity(self) -> dict[str, Any]:
        """Return how dates are read and standardised."""
        return {
            "cycles": list(self.cycles),
            "format": self.format,
            "centre": self.centre,
            "scale": self.scale,
        }

    def meaning(self, cell: str) -> Hashable:
        """Return the moment, if the cell is one."""
        try:  # which is 200 times faster than pandas, for a single cell
            if self.format is None:
                moment = datetime.fromisoformat(cell)
            else:
                moment = datetime.strptime(cell, self.format)
        except ValueError:
            return moments(np.array([cell], dtype=object), self.format)[0].item() or cell
        if moment.tzinfo is None:
            return moment
        return moment.astimezone(timezone.utc).replace(tzinfo=None)

    def _days(self, cells: NDArray[np.object_]) -> NDArray[np.float64]:
        """Return the days since 1970 of each cell, NaN if it is missing or no date."""
        since = moments(cells, self.format) - np.datetime64(0, "us")
        days: NDArray[np.float64] = since / np.timedelta64(1, "D")
        return days
