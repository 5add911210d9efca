"""Vectors for the columns of a table: embeddings of numbers and of categories."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from mtl_lightning.models.backbones.table import Columns
from mtl_lightning.system.errors import UserError

Embedding = Literal["periodic", "piecewise", "linear"]


@dataclass(frozen=True)
class VectorSettings:
    """How columns become vectors.

    Args:
        owner: The backbone, for messages.
        numbers: ``periodic``: sines and cosines of learned frequencies, a linear layer of the
            column's own and a ReLU. ``piecewise``: the number as it is, and how far it is through
            each of its bins. ``linear``: as it is.
        number_width: The length of the vector of a ``periodic`` number.
        frequencies: The number of its frequencies.
        frequency_scale: Their standard deviation at the start.
        category_width: The largest length of a category's vector; at most that of its codes.

    Raises:
        UserError: If a number is out of range.
    """

    owner: str
    numbers: Embedding
    number_width: int
    frequencies: int
    frequency_scale: float
    category_width: int

    def __post_init__(self) -> None:
        for name in ("number_width", "frequencies", "category_width"):
            check_count(self.owner, name, getattr(self, name))
        if not self.frequency_scale > 0:
            raise UserError(
                f"{self.owner}: frequency_scale should be above 0. Found {self.frequency_scale}"
            )


def check_count(owner: str, name: str, value: int) -> None:
    """Check that a setting is 1 or more.

    Raises:
        UserError: If it is not.
    """
    if value < 1:
        raise UserError(f"{owner}: {name} should be 1 or more. Found {value}")


class ColumnVectors(nn.Module):
    """Embeds packed columns, see `Columns.pack`: (B, columns.width) to (B, sum of `lengths`).

    Args:
        columns: The columns.
        settings: How they are embedded.

    Attributes:
        lengths: The length of each vector, in order.

    Raises:
        UserError: If numbers should be piecewise, and none has bins.
    """

    def __init__(self, columns: Columns, settings: VectorSettings) -> None:
        super().__init__()
        self.columns = columns
        self.numbers: nn.Module | None = None
        self.categories: Categories | None = None
        self.lengths: list[int] = []
        count = columns.numbers
        if count and settings.numbers == "periodic":
            frequencies, width = settings.frequencies, settings.number_width
            self.numbers = nn.Sequential(
                Periodic(count, frequencies, settings.frequency_scale),
                ColumnLinear(count, 2 * frequencies + 1, width),
                nn.ReLU(),
                nn.Flatten(1),
            )
            self.lengths += [width] * count
        elif count and settings.numbers == "piecewise":
            if not columns.edges:
                raise UserError(
                    f"{settings.owner}: with numbers: piecewise, inputs should have bins. Found "
                    f"none; set them in data.inputs: {{class_path: Number, init_args: {{bins: 8}}}}"
                )
            self.numbers = Piecewise(columns.edges)
            self.lengths += self.numbers.lengths
        elif count:
            self.numbers = nn.Identity()  # numbers, and which are missing
            self.lengths += [1] * (2 * count)
        if columns.sizes:
            self.categories = Categories(columns.sizes, settings.category_width)
            self.lengths += [self.categories.length] * len(columns.sizes)

    def forward(self, packed: Tensor) -> Tensor:
        """Return all vectors, concatenated."""
        count, parts = 2 * self.columns.numbers, list[Tensor]()
        if self.numbers is not None:
            parts.append(self.numbers(packed[:, :count]))
        if self.categories is not None:
            parts.append(self.categories(packed[:, count:]))
        return torch.cat(parts, dim=1)


class Periodic(nn.Module):
    """Sines and cosines of learned frequencies, and absence: (B, 2 N) to (B, N, 2 F + 1).

    Args:
        numbers: N; the second half of the input says which are missing.
        frequencies: F.
        scale: The standard deviation of the frequencies at the start.
    """

    def __init__(self, numbers: int, frequencies: int, scale: float) -> None:
        super().__init__()
        start = torch.empty(numbers, frequencies)
        nn.init.trunc_normal_(start, 0, scale, -3 * scale, 3 * scale)
        self.frequencies = nn.Parameter(start)

    def forward(self, values: Tensor) -> Tensor:
        """Return 0 for a missing number, but for the last value, which is 1."""
        numbers, missing = values.chunk(2, dim=1)
        angles = 2 * math.pi * self.frequencies * numbers[..., None]
        waves = torch.cat([angles.sin(), angles.cos()], dim=2) * (1 - missing[..., None])
        return torch.cat([waves, missing[..., None]], dim=2).to(self.frequencies.dtype)


class Piecewise(nn.Module):
    """Numbers, which are missing, and how far each is through its bins: (B, 2 N) to (B, width).

    In a bin, this is 0 at its start and 1 at its end; it goes on below the first bin and above the
    last. Bins are statistics of the training rows, which the inputs keep, so that they are no part
    of the state.

    Args:
        edges: The ends of the bins of each of N numbers; a number without any is as it is.

    Attributes:
        lengths: Of the result's parts: a number, or the bins of one.
    """

    column: Tensor
    start: Tensor
    length: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, edges: tuple[tuple[float, ...], ...]) -> None:
        super().__init__()
        bins = [max(len(ends) - 1, 0) for ends in edges]
        self.lengths = [1] * (2 * len(edges)) + [n for n in bins if n]
        own = [pair for ends in edges for pair in pairwise(ends)]
        infinity = float("inf")
        values = {
            "column": torch.tensor([i for i, n in enumerate(bins) for _ in range(n)]),
            "start": torch.tensor([first for first, _ in own]),
            "length": torch.tensor([last - first for first, last in own]),
            "low": torch.tensor([0.0 if k else -infinity for n in bins for k in range(n)]),
            "high": torch.tensor([1.0 if k < n - 1 else infinity for n in bins for k in range(n)]),
        }
        for name, value in values.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return 0 for a missing number, and in each of its bins."""
        numbers, missing = values.chunk(2, dim=1)
        there = 1 - missing
        through = (numbers[:, self.column] - self.start) / self.length
        through = torch.minimum(torch.maximum(through, self.low), self.high)
        return torch.cat([numbers * there, missing, through * there[:, self.column]], dim=1)


class ColumnLinear(nn.Module):
    """A linear layer for each of N columns: (B, N, inputs) to (B, N, outputs).

    Args:
        columns: N.
        inputs: Of each column.
        outputs: Of each column.
    """

    def __init__(self, columns: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(columns, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, 1, outputs).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        """Apply each column's own layer."""
        return torch.baddbmm(self.bias, values.transpose(0, 1), self.weight).transpose(0, 1)


class Categories(nn.Module):
    """A learned vector for each code of each category: (B, C) to (B, width).

    The vectors of all categories are rows of one matrix. That of an unknown value starts at 0, and
    stays there if no training row has one.

    Args:
        sizes: The number of codes of each category.
        most: The largest length of a vector.
    """

    first: Tensor

    def __init__(self, sizes: tuple[int, ...], most: int) -> None:
        super().__init__()
        self.length = min(most, max(sizes))
        first = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("first", first, persistent=False)
        start = torch.randn(sum(sizes), self.length)
        start[first + 1] = 0
        self.vectors = nn.Parameter(start)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the vectors of floating codes, concatenated."""
        places = codes.long() + self.first
        return nn.functional.embedding(places, self.vectors).flatten(1)
