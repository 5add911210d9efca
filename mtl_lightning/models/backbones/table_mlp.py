"""A residual MLP for tables, with embeddings of numbers and categories."""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from mtl_lightning.models.backbones.table import Columns, TableBackbone
from mtl_lightning.system.errors import UserError

Embedding = Literal["periodic", "piecewise", "linear"]


class TableMLP(TableBackbone):
    """A residual MLP, the ResNet of Gorishniy et al. with layer norm instead of batch norm.

    Numbers are embedded by sines and cosines of learned frequencies, a linear layer of their own
    and a ReLU, or by piecewise-linear functions; a missing number adds a learned vector of its
    column. Categories are embedded by a
    vector for each code. Layer norm does not mix rows, so that several ranks equal one process.

    Gorishniy, Rubachev, Khrulkov and Babenko, "Revisiting Deep Learning Models for Tabular Data",
    NeurIPS 2021; Gorishniy, Rubachev and Babenko, "On Embeddings for Numerical Features in Tabular
    Deep Learning", NeurIPS 2022 (PLR, PLE). Stages for ``trainable_from``: ``embedding``,
    ``block1``...

    Args:
        width: The features, and the width of the residual stream.
        blocks: The number of residual blocks, each with two linear layers.
        hidden: The units between these layers, relative to ``width``.
        dropout: Share of these units that is dropped in training.
        numbers: How numbers are embedded: ``periodic``; ``piecewise`` (as they are, and how far
            they are through each of their bins; each `Number` then has ``bins``); or ``linear``
            (as they are).
        number_width: The length of a number's embedding.
        frequencies: The number of frequencies of each number.
        frequency_scale: The standard deviation of the frequencies at the start. It is the setting
            that matters most: 0.01 to 1 fit smooth to wiggly dependencies.
        category_width: The largest length of a category's embedding; at most that of its codes.
        trainable_from: See `Backbone`.

    Raises:
        UserError: If a number is out of range.
    """

    def __init__(
        self,
        width: int = 256,
        blocks: int = 3,
        hidden: float = 2.0,
        dropout: float = 0.1,
        numbers: Embedding = "periodic",
        number_width: int = 16,
        frequencies: int = 16,
        frequency_scale: float = 0.1,
        category_width: int = 16,
        trainable_from: str | None = None,
    ) -> None:
        least = {
            "width": width,
            "blocks": blocks,
            "number_width": number_width,
            "frequencies": frequencies,
            "category_width": category_width,
        }
        for name, value in least.items():
            if value < 1:
                raise UserError(f"TableMLP: {name} should be 1 or more. Found {value}")
        for name, amount in (("hidden", hidden), ("frequency_scale", frequency_scale)):
            if not amount > 0:
                raise UserError(f"TableMLP: {name} should be above 0. Found {amount}")
        if not 0 <= dropout < 1:
            raise UserError(f"TableMLP: dropout should be in 0..1 (1 excluded). Found {dropout}")
        between = max(round(hidden * width), 1)
        parts: dict[str, nn.Module] = {
            f"block{i}": ResidualBlock(width, between, dropout, last=i == blocks)
            for i in range(1, blocks + 1)
        }
        super().__init__(parts, trainable_from)
        self.width = width
        self.numbers = numbers
        self.number_width = number_width
        self.frequencies = frequencies
        self.frequency_scale = frequency_scale
        self.category_width = category_width

    def embedding(self, columns: Columns) -> nn.Module:
        """Embed all columns, and project them to the residual stream.

        Raises:
            UserError: If numbers should be piecewise, and none has bins.
        """
        if self.numbers == "piecewise" and columns.numbers and not columns.edges:
            raise UserError(
                "TableMLP: with numbers: piecewise, inputs should have bins. Found none; set them "
                "in data.inputs: {class_path: Number, init_args: {bins: 8}}"
            )
        return ColumnEmbedding(
            columns,
            self.width,
            self.numbers,
            self.number_width,
            self.frequencies,
            self.frequency_scale,
            self.category_width,
        )


class ResidualBlock(nn.Module):
    """Layer norm, linear, ReLU, dropout, linear, added to the input: (B, width) to (B, width).

    Args:
        width: Of input and output.
        between: Units between the linear layers.
        dropout: Share of these that is dropped.
        last: Whether a layer norm and a ReLU follow, for the heads.
    """

    def __init__(self, width: int, between: int, dropout: float, last: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, between),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(between, width),
        )
        self.end = nn.Sequential(nn.LayerNorm(width), nn.ReLU()) if last else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        """Return the sum of the input and the branch."""
        ended: Tensor = self.end(values + self.branch(values))
        return ended


class ColumnEmbedding(nn.Module):
    """Embeds packed columns, see `Columns.pack`, and joins them: (B, columns.width) to (B, width).

    Args:
        columns: The columns.
        width: The length of the result.
        numbers: How numbers are embedded.
        number_width: The length of a number's embedding.
        frequencies: The number of frequencies of each number.
        frequency_scale: Their standard deviation at the start.
        category_width: The largest length of a category's embedding.
    """

    def __init__(
        self,
        columns: Columns,
        width: int,
        numbers: Embedding,
        number_width: int,
        frequencies: int,
        frequency_scale: float,
        category_width: int,
    ) -> None:
        super().__init__()
        self.columns = columns
        self.numbers: nn.Module | None = None
        self.categories: Categories | None = None
        embedded = 0
        if columns.numbers:
            if numbers == "periodic":
                self.numbers = nn.Sequential(
                    Periodic(columns.numbers, frequencies, frequency_scale),
                    ColumnLinear(columns.numbers, 2 * frequencies + 1, number_width),
                    nn.ReLU(),
                    nn.Flatten(1),
                )
                embedded += columns.numbers * number_width
            elif numbers == "piecewise":
                self.numbers = Piecewise(columns.edges)
                embedded += self.numbers.width
            else:
                self.numbers = nn.Identity()  # numbers, and which are missing
                embedded += 2 * columns.numbers
        if columns.sizes:
            self.categories = Categories(columns.sizes, category_width)
            embedded += self.categories.width
        self.joined = nn.Linear(embedded, width)

    def forward(self, packed: Tensor) -> Tensor:
        """Return a linear map of all embeddings."""
        count, parts = 2 * self.columns.numbers, list[Tensor]()
        if self.numbers is not None:
            parts.append(self.numbers(packed[:, :count]))
        if self.categories is not None:
            parts.append(self.categories(packed[:, count:]))
        dtype = self.joined.weight.dtype
        joined: Tensor = self.joined(torch.cat([part.to(dtype) for part in parts], dim=1))
        return joined


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
    """

    column: Tensor
    start: Tensor
    length: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, edges: tuple[tuple[float, ...], ...]) -> None:
        super().__init__()
        bins = [max(len(ends) - 1, 0) for ends in edges]
        self.width = 2 * len(edges) + sum(bins)
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
        self.width = self.length * len(sizes)
        first = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("first", first, persistent=False)
        start = torch.randn(sum(sizes), self.length)
        start[first + 1] = 0
        self.vectors = nn.Parameter(start)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the vectors of floating codes, concatenated."""
        places = codes.long() + self.first
        return nn.functional.embedding(places, self.vectors).flatten(1)
