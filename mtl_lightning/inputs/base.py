"""The base class of inputs: a column of the sources that the network reads, beside any image.

Adding a kind of input: one file here with one class, one line in ``__init__.pyi``, one test file.

1. Derive from `Input`. The constructor takes the settings, and what `learn` finds in the training
   rows as arguments with the default None: so a config, and a checkpoint, hold it as plain values.
2. ``tensor`` names the tensor of a batch that holds the column, one of `TENSORS`; `width` and
   `sizes` say how much of it.
3. In `learn`, compute statistics or a vocabulary from training cells alone. Keep what is given.
4. In `read`, turn each cell into one number or code, and in `transform` these into what the network
   gets: with torch alone, since it is in exported graphs, too. A cell that is missing must differ
   from every other.
5. `unit` and `example` say what these numbers are, for users of an exported graph.
6. `identity` returns all arguments of the constructor: what a checkpoint must agree on.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_lightning.models.inputs import CATEGORIES, NUMBERS, InputSpec
from mtl_lightning.system.errors import UserError

TENSORS: Mapping[str, torch.dtype] = {NUMBERS: torch.float32, CATEGORIES: torch.int64}
"""The tensors of a batch that hold columns, and their dtypes."""

GRAPH_INPUT: Mapping[str, torch.dtype] = {NUMBERS: torch.float64, CATEGORIES: torch.int64}
"""The dtypes of a column's values before `Input.transform`, by the tensor that holds it."""


@dataclass(frozen=True)
class EncodedInput:
    """The cells of a column as values.

    Attributes:
        values: From `Input.read` (N,), of the dtype in `GRAPH_INPUT`; from `Input.encode`
            (N, width), of the dtype in `TENSORS`.
        bad: (N,) bool, the cells that could not be read.
    """

    values: NDArray[np.generic]
    bad: NDArray[np.bool_]


class Input(ABC):
    """A column that the network reads.

    Attributes:
        tensor: The name of the tensor that holds it.
    """

    tensor: ClassVar[str]

    @property
    @abstractmethod
    def width(self) -> int:
        """The number of values that a cell becomes."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """For categories, the number of codes of each value; else empty."""
        return ()

    @property
    def edges(self) -> tuple[tuple[float, ...], ...]:
        """For numbers, the ends of the intervals of each value, empty without any; else empty."""
        return ((),) * self.width if self.tensor == NUMBERS else ()

    @property
    @abstractmethod
    def is_known(self) -> bool:
        """Whether statistics or vocabulary are known: given, or learned."""

    @abstractmethod
    def learn(self, cells: NDArray[np.object_]) -> None:
        """Compute what is not known from the cells of the training rows, str or None.

        Raises:
            UserError: If nothing can be learned from these cells.
        """

    @abstractmethod
    def read(self, cells: NDArray[np.object_]) -> EncodedInput:
        """Return the number or code of each cell, (N,) str as in the source or None."""

    @abstractmethod
    def transform(self, values: Tensor) -> Tensor:
        """Return what the network gets for the values of `read`: (N,) to (N, width)."""

    @abstractmethod
    def unit(self) -> str:
        """Return what the values of `read` are, for users of an exported graph."""

    @abstractmethod
    def example(self, rows: int, draw: np.random.Generator) -> NDArray[np.generic]:
        """Return random values as of `read`, missing ones among them, (rows,)."""

    def encode(self, cells: NDArray[np.object_]) -> EncodedInput:
        """Read and transform cells, (N,) str as in the source or None, of any split."""
        found = self.read(cells)
        return EncodedInput(self.transform(torch.from_numpy(found.values)).numpy(), found.bad)

    def unknown(self, cells: NDArray[np.object_]) -> NDArray[np.bool_]:
        """Return which cells training has never seen, where that is a value of its own, (N,)."""
        return np.zeros(len(cells), dtype=bool)

    @abstractmethod
    def expected(self) -> str:
        """Return what a cell should be, for messages."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return the arguments of the constructor, learned ones included, as plain values."""

    def meaning(self, cell: str) -> Hashable:
        """Return what is the same for two cells that mean the same."""
        return cell


def specs_of(inputs: Mapping[str, Input]) -> dict[str, InputSpec]:
    """Return the specifications of the tensors that hold these columns, without empty ones.

    Raises:
        UserError: If the vocabulary or the statistics of an input are not known yet.
    """
    specs = {}
    for name, column in inputs.items():
        if not column.is_known:
            raise UserError(
                f"input {name}: {type(column).__name__} should know its statistics before a model "
                f"is built. Found none; let the data compute them first, with the same objects: "
                f'data.setup("fit")'
            )
    for tensor, dtype in TENSORS.items():
        own = [column for column in inputs.values() if column.tensor == tensor]
        if own:
            width = sum(column.width for column in own)
            sizes = tuple(size for column in own for size in column.sizes)
            edges = tuple(ends for column in own for ends in column.edges)
            specs[tensor] = InputSpec((width,), dtype, sizes, edges if any(edges) else ())
    return specs


def places(inputs: Mapping[str, Input]) -> dict[str, tuple[str, slice]]:
    """Return for each column the tensor that holds it, and where in its second dimension."""
    found, ends = {}, dict.fromkeys(TENSORS, 0)
    for name, column in inputs.items():
        start = ends[column.tensor]
        ends[column.tensor] = start + column.width
        found[name] = column.tensor, slice(start, start + column.width)
    return found


def transformed(inputs: Mapping[str, Input], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a batch that hold these columns, (N, width) each.

    Args:
        inputs: The inputs by name.
        values: Input to its values as of `Input.read`, (N,).
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in TENSORS}
    for name, column in inputs.items():
        parts[column.tensor].append(column.transform(values[name]))
    return {name: torch.cat(own, dim=1) for name, own in parts.items() if own}
