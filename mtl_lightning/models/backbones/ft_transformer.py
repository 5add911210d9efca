"""FT-Transformer of the package ``rtdl_revisiting_models``."""

from functools import partial

import torch
from torch import Tensor, nn

from mtl_lightning.models.backbones.table import Columns, TableBackbone, package_of_extra
from mtl_lightning.system.errors import UserError

_package = partial(package_of_extra, "FTTransformer", "rtdl_revisiting_models")


class FTTransformer(TableBackbone):
    """A transformer over the columns of a table, each of which is a token.

    Gorishniy, Rubachev, Khrulkov and Babenko, "Revisiting Deep Learning Models for Tabular Data",
    NeurIPS 2021; blocks and embeddings are theirs. A missing number has a learned vector of its
    column in addition. Its time grows with the square of the number of columns. Needs the extra
    ``tables``. Stages for ``trainable_from``: ``embedding``, ``transformer``.

    Args:
        blocks: The number of blocks.
        width: The length of a token, a multiple of ``heads``.
        heads: The number of attention heads.
        attention_dropout: Share of attention weights that are dropped in training.
        dropout: Share of the units in each block's feed-forward part that are dropped.
        trainable_from: See `Backbone`.

    Raises:
        UserError: If the package is not installed, or a number is out of range.
    """

    def __init__(
        self,
        blocks: int = 3,
        width: int = 192,
        heads: int = 8,
        attention_dropout: float = 0.2,
        dropout: float = 0.1,
        trainable_from: str | None = None,
    ) -> None:
        for name, value in (("blocks", blocks), ("heads", heads)):
            if value < 1:
                raise UserError(f"FTTransformer: {name} should be 1 or more. Found {value}")
        if width < heads or width % heads:
            raise UserError(
                f"FTTransformer: width should be a multiple of heads ({heads}). Found {width}"
            )
        for name, share in (("attention_dropout", attention_dropout), ("dropout", dropout)):
            if not 0 <= share < 1:
                raise UserError(
                    f"FTTransformer: {name} should be in 0..1 (1 excluded). Found {share}"
                )
        transformer = _package().FTTransformerBackbone(
            d_out=None,
            n_blocks=blocks,
            d_block=width,
            attention_n_heads=heads,
            attention_dropout=attention_dropout,
            ffn_d_hidden_multiplier=4 / 3,
            ffn_dropout=dropout,
            residual_dropout=0.0,
        )
        super().__init__({"transformer": transformer}, trainable_from)
        self.width = width

    def embedding(self, columns: Columns) -> nn.Module:
        """Make a token of each column."""
        return Tokens(columns, self.width)


class Tokens(nn.Module):
    """Packed columns, see `Columns.pack`, as tokens: (B, columns.width) to (B, 1 + columns, width).

    The first token is that of the answer.

    Args:
        columns: The columns.
        width: The length of a token.
    """

    def __init__(self, columns: Columns, width: int) -> None:
        super().__init__()
        self.columns = columns
        bound = width**-0.5
        self.answer = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        self.numbers: nn.Module | None = None
        self.categories: nn.Module | None = None
        if columns.numbers:
            self.numbers = _package().LinearEmbeddings(columns.numbers, width)
            start = torch.empty(columns.numbers, width).uniform_(-bound, bound)
            self.missing = nn.Parameter(start)
        if columns.sizes:
            sizes = list(columns.sizes)
            self.categories = _package().CategoricalEmbeddings(sizes, width, True)

    def forward(self, packed: Tensor) -> Tensor:
        """Return the tokens, in the dtype of the weights."""
        count, dtype = self.columns.numbers, self.answer.dtype
        tokens = [self.answer.expand(packed.shape[0], 1, -1)]
        if self.numbers is not None:
            values, missing = packed[:, : 2 * count].to(dtype).chunk(2, dim=1)
            tokens.append(self.numbers(values) + missing[..., None] * self.missing)
        if self.categories is not None:
            tokens.append(self.categories(packed[:, 2 * count :].long()))
        return torch.cat(tokens, dim=1)
