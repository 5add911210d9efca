"""The columns that a network reads, of all rows, as tensors in memory."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_lightning.data.batch import HAS_IMAGE, PADDING
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.inputs import Input
from mtl_lightning.inputs.base import transformed
from mtl_lightning.system.errors import UserError, quoted, short

MOST_ON_DEVICE = 2**30
"""Bytes up to which columns are kept in the memory of an accelerator."""


class InputColumns:
    """Tensors of N rows by name, of which a batch gets its rows.

    Args:
        tensors: Name to ``(N, ...)``.

    Attributes:
        tensors: The argument, with one more row of missing values, which padding gets.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = {
            name: torch.cat([values, _missing(values)]) for name, values in tensors.items()
        }

    def only(self, names: Collection[str]) -> "InputColumns":
        """Return the tensors with these names."""
        kept = InputColumns({})
        kept.tensors = {n: values for n, values in self.tensors.items() if n in names}
        return kept

    def near(self, device: torch.device) -> "InputColumns":
        """Return the tensors in the device's memory, from which batches are taken without a copy.

        They stay where they are if they are larger than `MOST_ON_DEVICE`.
        """
        if sum(values.nbytes for values in self.tensors.values()) > MOST_ON_DEVICE:
            return self
        kept = InputColumns({})
        kept.tensors = {name: values.to(device) for name, values in self.tensors.items()}
        return kept

    def of(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the values of rows, ``(B, ...)`` each; those of padding are missing."""
        assert PADDING == -1  # which is the last row
        places = torch.from_numpy(rows)
        return {
            name: values.index_select(0, places.remainder(len(values)).to(values.device))
            for name, values in self.tensors.items()
        }


def _missing(values: Tensor) -> Tensor:
    """Return one row of missing values."""
    one = values.new_zeros(1, *values.shape[1:])
    return one.fill_(torch.nan) if values.is_floating_point() else one


def learn_inputs(inputs: Mapping[str, Input], table: MergedTable) -> dict[str, dict[str, Any]]:
    """Let inputs compute what they do not know yet from the training rows.

    Returns:
        Input to its `Input.identity`.

    Raises:
        UserError: If no source has a column, or no training row a value in it.
    """
    training = table.in_split("train")
    for name, column in inputs.items():
        cells = table.inputs[name]
        if not pd.notna(cells).any():
            raise UserError(
                f"data.inputs.{name}: a source should have a column {quoted(name)} with values. "
                f"Found none; name its column in a source: inputs: {{{name}: <column>}}"
            )
        if not column.is_known and not pd.notna(cells[training]).any():
            raise UserError(
                f"data.inputs.{name}: a training row should have a value. Found none; leave the "
                f"input out"
            )
        try:
            column.learn(cells[training])
        except UserError as error:
            raise UserError(f"data.inputs.{name}: {error}") from None
    return {name: column.identity() for name, column in inputs.items()}


def encode_inputs(
    inputs: Mapping[str, Input],
    cells: Mapping[str, Texts],
    has_image: NDArray[np.bool_],
    location: Callable[[int, str], str],
    mend: str = "`missing: [{}]` in the source",
) -> InputColumns:
    """Encode the columns of N rows.

    Args:
        inputs: The inputs by name.
        cells: Input to its cells, (N,) str or None.
        has_image: The rows that have an image, (N,).
        location: Returns the place of a row's cell for a message.
        mend: How to say that a cell means nothing, for a message; ``{}`` is the cell.

    Raises:
        UserError: If an input is not known yet, or a cell cannot be read.
    """
    tensors = transformed(inputs, read_inputs(inputs, cells, location, mend))
    return InputColumns({**tensors, HAS_IMAGE: torch.from_numpy(has_image)})


def read_inputs(
    inputs: Mapping[str, Input],
    cells: Mapping[str, Texts],
    location: Callable[[int, str], str],
    mend: str = "`missing: [{}]` in the source",
) -> dict[str, Tensor]:
    """Return the values of columns as of `Input.read`, (N,) each.

    Args:
        inputs: The inputs by name.
        cells: Input to its cells, (N,) str or None.
        location: Returns the place of a row's cell for a message.
        mend: How to say that a cell means nothing, for a message; ``{}`` is the cell.

    Raises:
        UserError: If an input is not known yet, or a cell cannot be read.
    """
    values = {}
    for name, column in inputs.items():
        if not column.is_known:
            raise UserError(
                f"data.inputs.{name}: {type(column).__name__} should know its statistics before "
                f"rows are read. Found none; give the data the inputs of the model"
            )
        found = column.read(cells[name])
        if found.bad.any():
            row, count = int(np.flatnonzero(found.bad)[0]), int(found.bad.sum())
            cell, more = cells[name][row], f" ({count:,} cells like this)" if count > 1 else ""
            raise UserError(
                f"{location(row, name)}: input {name} cannot read {quoted(cell)}{more}; expected "
                f"{column.expected()}, or {mend.format(short(cell))}"
            )
        values[name] = torch.from_numpy(found.values)
    return values
