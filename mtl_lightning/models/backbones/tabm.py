"""TabM: an ensemble of MLPs in one, with layers of the package ``tabm``."""

from functools import partial

from torch import Tensor, nn

from mtl_lightning.models.backbones.column_vectors import (
    ColumnVectors,
    Embedding,
    VectorSettings,
    check_count,
)
from mtl_lightning.models.backbones.table import Columns, TableBackbone, package_of_extra
from mtl_lightning.system.errors import UserError

_package = partial(package_of_extra, "TabM", "tabm")


class TabM(TableBackbone):
    """An ensemble of MLPs that share most of their weights.

    Each member scales the inputs and outputs of shared linear layers by vectors of its own, and has
    its own heads. Members are trained on the mean of their losses, and answer with the mean of
    their probabilities or values; so they are several networks in little more than the time of a
    wide one. Needs the extra ``tables``.

    Gorishniy, Kotelnikov and Babenko, "TabM: Advancing Tabular Deep Learning with
    Parameter-Efficient Ensembling", ICLR 2025 (with ``numbers: periodic`` or ``piecewise``, their
    TabM with embeddings). Stages for ``trainable_from``: ``embedding`` (with the first layer),
    ``block2``...

    Args:
        width: The features of each member.
        blocks: The number of layers.
        members: The number of members.
        dropout: Share of the units that is dropped in training.
        numbers: How numbers are embedded, as in `TableMLP`.
        number_width: The length of a ``periodic`` number's embedding.
        frequencies: The number of its frequencies.
        frequency_scale: Their standard deviation at the start.
        category_width: The largest length of a category's embedding; at most that of its codes.
        trainable_from: See `Backbone`.

    Raises:
        UserError: If the package is not installed, or a number is out of range.
    """

    def __init__(
        self,
        width: int = 256,
        blocks: int = 3,
        members: int = 32,
        dropout: float = 0.1,
        numbers: Embedding = "linear",
        number_width: int = 16,
        frequencies: int = 16,
        frequency_scale: float = 0.1,
        category_width: int = 16,
        trainable_from: str | None = None,
    ) -> None:
        settings = VectorSettings(
            "TabM", numbers, number_width, frequencies, frequency_scale, category_width
        )
        for name, value in (("width", width), ("blocks", blocks)):
            check_count("TabM", name, value)
        if members < 2:
            raise UserError(f"TabM: members should be 2 or more. Found {members}; or use TableMLP")
        if not 0 <= dropout < 1:
            raise UserError(f"TabM: dropout should be in 0..1 (1 excluded). Found {dropout}")
        layers: dict[str, nn.Module] = {
            f"block{i}": nn.Sequential(
                _package().LinearBatchEnsemble(width, width, k=members, scaling_init="ones"),
                nn.ReLU(),
                nn.Dropout(dropout),
            )
            for i in range(2, blocks + 1)
        }
        super().__init__({**layers, "members": nn.Flatten(1)}, trainable_from)
        self.width = width
        self.members = members
        self.dropout = dropout
        self.settings = settings

    def embedding(self, columns: Columns) -> nn.Module:
        """Embed all columns, and run each member's first layer on them."""
        return FirstLayer(columns, self.width, self.members, self.dropout, self.settings)

    def stage_map(self, stage: str, values: Tensor) -> Tensor:
        """Turn (B, members, F), or (B, members * F), into a map of one cell."""
        return super().stage_map(stage, values.flatten(1))


class FirstLayer(ColumnVectors):
    """Packed columns, see `Columns.pack`, to units of members: (B, columns.width) to (B, K, width).

    Members differ in how they scale the vector of each column, at random.

    Args:
        columns: The columns.
        width: The units.
        members: K.
        dropout: Share of the units that is dropped in training.
        settings: How the columns are embedded.
    """

    def __init__(
        self, columns: Columns, width: int, members: int, dropout: float, settings: VectorSettings
    ) -> None:
        super().__init__(columns, settings)
        # As in the package: a sign for numbers as they are, which leaves their scale.
        scaling = "random-signs" if settings.numbers == "linear" else "normal"
        self.views = _package().EnsembleView(k=members)
        self.layer = _package().LinearBatchEnsemble(
            sum(self.lengths),
            width,
            k=members,
            scaling_init=(scaling, "ones"),
            first_scaling_init_chunks=self.lengths,
        )
        self.ends = nn.Sequential(nn.ReLU(), nn.Dropout(dropout))

    def forward(self, packed: Tensor) -> Tensor:
        """Return the units."""
        vectors = super().forward(packed).to(self.layer.weight.dtype)
        units: Tensor = self.ends(self.layer(self.views(vectors)))
        return units
