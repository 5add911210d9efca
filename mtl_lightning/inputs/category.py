"""One of several values that have no order."""

from collections import Counter
from collections.abc import Hashable
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_lightning.inputs.base import EncodedInput, Input
from mtl_lightning.models.inputs import CATEGORIES
from mtl_lightning.system.errors import UserError, listed
from mtl_lightning.tasks.cells import canonical, normalised

MISSING, UNKNOWN, FIRST = 0, 1, 2
"""The codes of an empty cell, of a value that is not in the vocabulary, and of its first value."""
MOST = 10_000
"""The largest vocabulary: a column with more values is a name, not a category."""


class Category(Input):
    """A column of categories, compared as text.

    Args:
        values: The vocabulary; by default the values of the training rows, sorted. Any other value
            is *unknown*, which has a code of its own, as has an empty cell.
        min_count: A value in fewer training rows is left out of the vocabulary, so that there are
            rows to learn from what unknown means. With 1, unknown adds nothing to a sum.

    Raises:
        UserError: If ``values`` has one twice, or ``min_count`` is below 1.
    """

    tensor: ClassVar[str] = CATEGORIES

    def __init__(self, values: list[str] | None = None, min_count: int = 1) -> None:
        self.values = None if values is None else [canonical(str(value)) for value in values]
        if self.values is not None and len(set(self.values)) < len(self.values):
            twice = next(value for value, n in Counter(self.values).items() if n > 1)
            raise UserError(f"values should be distinct. Found {twice} twice")
        if min_count < 1:
            raise UserError(f"min_count should be 1 or more. Found {min_count}")
        self.min_count = min_count

    @property
    def width(self) -> int:
        """One code."""
        return 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """The vocabulary, unknown and missing."""
        return (len(self.values or ()) + FIRST,)

    @property
    def is_known(self) -> bool:
        """Whether there is a vocabulary."""
        return self.values is not None

    def learn(self, cells: NDArray[np.object_]) -> None:
        """Collect the vocabulary."""
        if self.values is not None:
            return
        known = normalised(cells)
        counts = Counter(known[pd.notna(known)].tolist())
        values = sorted(value for value, count in counts.items() if count >= self.min_count)
        if len(values) > MOST:
            raise UserError(
                f"a category should have {MOST:,} values at most. Found {len(values):,} in the "
                f"training rows, such as {values[0]}; is it a name, or a Number?"
            )
        self.values = values

    def read(self, cells: NDArray[np.object_]) -> EncodedInput:
        """Return codes; no cell is bad."""
        codes = pd.Series(normalised(cells), dtype=object).map(
            {value: code for code, value in enumerate(self.values or (), start=FIRST)}
        )
        codes = codes.fillna(UNKNOWN).to_numpy(dtype=np.int64)
        return EncodedInput(
            np.where(pd.isna(cells), MISSING, codes), np.zeros(len(cells), dtype=bool)
        )

    def unknown(self, cells: NDArray[np.object_]) -> NDArray[np.bool_]:
        """Return which cells are not in the vocabulary, (N,)."""
        strange: NDArray[np.bool_] = self.read(cells).values == UNKNOWN
        return strange

    def transform(self, values: Tensor) -> Tensor:
        """Return codes, unknown where there is no such code: (N,) int64 to (N, 1)."""
        known = (values >= 0) & (values < self.sizes[0])
        return torch.where(known, values, UNKNOWN)[:, None]

    def unit(self) -> str:
        """Codes."""
        values = listed(self.values or ())
        return f"a code (int64): {MISSING} missing, {UNKNOWN} unknown, from {FIRST} on {values}"

    def example(self, rows: int, draw: np.random.Generator) -> NDArray[np.generic]:
        """Return any codes, and some that do not exist."""
        return draw.integers(-1, self.sizes[0] + 1, rows)

    def meaning(self, cell: str) -> Hashable:
        """Return the canonical text, see `mtl_lightning.tasks.cells`."""
        return canonical(cell)

    def expected(self) -> str:
        """Any text will do."""
        return "any text"

    def identity(self) -> dict[str, Any]:
        """Return the vocabulary."""
        return {"values": self.values, "min_count": self.min_count}
