"""A residual MLP for tables, with embeddings of numbers and categories."""

from torch import Tensor, nn

from mtl_lightning.models.backbones.column_vectors import (
    ColumnVectors,
    Embedding,
    VectorSettings,
    check_count,
)
from mtl_lightning.models.backbones.table import Columns, TableBackbone
from mtl_lightning.system.errors import UserError


class TableMLP(TableBackbone):
    """A residual MLP, the ResNet of Gorishniy et al. with layer norm instead of batch norm.

    Numbers are embedded by sines and cosines of learned frequencies, a linear layer of their own
    and a ReLU, or by piecewise-linear functions; a missing number adds a learned vector of its
    column. Categories are embedded by a vector for each code. Layer norm does not mix rows, so that
    several ranks equal one process.

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
        settings = VectorSettings(
            "TableMLP", numbers, number_width, frequencies, frequency_scale, category_width
        )
        for name, value in (("width", width), ("blocks", blocks)):
            check_count("TableMLP", name, value)
        if not hidden > 0:
            raise UserError(f"TableMLP: hidden should be above 0. Found {hidden}")
        if not 0 <= dropout < 1:
            raise UserError(f"TableMLP: dropout should be in 0..1 (1 excluded). Found {dropout}")
        between = max(round(hidden * width), 1)
        parts: dict[str, nn.Module] = {
            f"block{i}": ResidualBlock(width, between, dropout, last=i == blocks)
            for i in range(1, blocks + 1)
        }
        super().__init__(parts, trainable_from)
        self.width = width
        self.settings = settings

    def embedding(self, columns: Columns) -> nn.Module:
        """Embed all columns, and project them to the residual stream."""
        return ColumnEmbedding(columns, self.width, self.settings)


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


class ColumnEmbedding(ColumnVectors):
    """Embeds packed columns, see `Columns.pack`, and joins them: (B, columns.width) to (B, width).

    Args:
        columns: The columns.
        width: The length of the result.
        settings: How they are embedded.
    """

    def __init__(self, columns: Columns, width: int, settings: VectorSettings) -> None:
        super().__init__(columns, settings)
        self.joined = nn.Linear(sum(self.lengths), width)

    def forward(self, packed: Tensor) -> Tensor:
        """Return a linear map of all vectors."""
        joined: Tensor = self.joined(super().forward(packed).to(self.joined.weight.dtype))
        return joined
