"""An image and the columns of a table, each with a backbone of its own."""

from collections.abc import Collection
from typing import ClassVar, Literal, cast, get_args

import torch
from torch import Tensor, nn

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.backbones.table import TableBackbone
from mtl_lightning.models.features import POOLED, FeatureSpec
from mtl_lightning.models.inputs import (
    CATEGORIES,
    HAS_IMAGE,
    IMAGE,
    NUMBERS,
    Inputs,
    InputSpecs,
)
from mtl_lightning.models.weights import LoadReport, NamedWeights
from mtl_lightning.system.errors import UserError, did_you_mean, listed

Join = Literal["concatenate", "film"]


class ImageAndTable(Backbone):
    """The features of an image joined with those of columns; either may be missing in a row.

    Where there is no image, a learned vector takes the place of each cell of its last map; batch
    norm in train mode sees a black image there. Where all columns are empty, the table's backbone
    has an input for each of them that says so.

    Perez, Strub, de Vries, Dumoulin and Courville, "FiLM: Visual Reasoning with a General
    Conditioning Layer", AAAI 2018, for ``film``: here on the last map alone. The stages are
    ``image``, ``table`` and ``join``; each half has its own ``trainable_from``, and the callback
    Unfreeze takes stages of the image's backbone.

    Args:
        image: Maps the image to features.
        table: Maps the columns to features.
        join: ``concatenate``: the pooled vector of the image and that of the columns are one
            vector. ``film``: the columns scale and shift each channel of the image's last map,
            which heads of maps then see, too.

    Raises:
        UserError: If there is no such join, or ``image`` reads no image.
    """

    reads: ClassVar[tuple[str, ...]] = (IMAGE, HAS_IMAGE, NUMBERS, CATEGORIES)

    def __init__(self, image: Backbone, table: TableBackbone, join: Join = "concatenate") -> None:
        if join not in get_args(Join):
            raise UserError(
                f"ImageAndTable: join should be one of {listed(get_args(Join))}. "
                f'Found "{join}"{did_you_mean(join, get_args(Join))}'
            )
        if IMAGE not in image.reads:
            raise UserError(
                f"ImageAndTable: image should be a backbone of images. Found {image.title}"
            )
        if table.members > 1:
            raise UserError(
                f"ImageAndTable: table should be a backbone of one vector, such as TableMLP. Found "
                f"{table.title}, an ensemble whose members have heads of their own"
            )
        joined = nn.ModuleDict()
        trunk = nn.ModuleDict({"image": image, "table": table, "join": joined})
        stages: dict[str, list[nn.Module]] = {"image": [image], "table": [table], "join": [joined]}
        super().__init__(trunk, stages, None, "none", "avg", None)
        self.join = join

    @property
    def image(self) -> Backbone:
        """The backbone of the image."""
        return cast("Backbone", self.trunk.get_submodule("image"))

    @property
    def table(self) -> TableBackbone:
        """The backbone of the columns."""
        return cast("TableBackbone", self.trunk.get_submodule("table"))

    def build(self, inputs: InputSpecs) -> None:
        """Make the layers that join the halves; see the base class."""
        self.image.build({IMAGE: inputs[IMAGE]})
        self.table.build(inputs)
        channels = self.image.describe(inputs).last_map.channels
        joined = self.trunk.get_submodule("join")
        # Both take one tensor of rows, so that gradients of single rows can be computed.
        joined.add_module("absent", nn.Linear(1, channels, bias=False))
        if self.join == "film":
            film = nn.Linear(self.table.describe(inputs).pooled, 2 * channels)
            nn.init.zeros_(film.weight)  # at first, the image's features as they are
            nn.init.zeros_(film.bias)
            joined.add_module("film", film)

    def describe(self, inputs: InputSpecs) -> FeatureSpec:
        """Describe the features of the image, with a longer pooled vector if it is joined."""
        spec = self.image.describe(inputs)
        more = 0 if self.join == "film" else self.table.describe(inputs).pooled
        return FeatureSpec(spec.pooled + more, spec.last, spec.last_map, lambda: spec.maps)

    def provide(self, names: Collection[str]) -> None:
        """Compute these features from now on.

        Raises:
            UserError: If no head reads what the columns are joined to.
        """
        if self.join == "concatenate" and POOLED not in names:
            raise UserError(
                "ImageAndTable: join should be film for heads that read maps of the image. "
                "Found concatenate, with which none of them reads a column"
            )
        self.provided = tuple(names)
        self.image.provide(names)

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """Compute the features in `provided`; ``has_image`` may be left out if all rows have."""
        maps = self.image.feature_maps(self.image.prepare(inputs), self.provided)
        columns = self.table.vector(inputs)
        last = maps[self.image.last_stage]
        # Not len(), which would fix the batch size of an exported graph.
        all_rows = torch.ones(last.shape[0], dtype=torch.bool, device=last.device)
        has = inputs.get(HAS_IMAGE, all_rows)
        there = has.to(last.dtype)[:, None]
        absent: Tensor = self.trunk.get_submodule("join.absent")(1 - there)
        last = last * there[..., None, None] + absent[..., None, None]
        if self.join == "film":
            scale, shift = self.trunk.get_submodule("join.film")(columns).chunk(2, dim=1)
            last = last * (1 + scale[..., None, None]) + shift[..., None, None]
        features = self.image.collect({**maps, self.image.last_stage: last})
        if self.join == "concatenate":
            features[POOLED] = torch.cat([features[POOLED], columns], dim=1)
        return features

    def runs_by_stage(self, inputs: InputSpecs) -> bool:
        """It does not: its halves are side by side."""
        del inputs
        return False

    def frozen_from(self, stage: str | None = None) -> list[nn.Parameter]:
        """Return what `unfreeze` would unfreeze; see the base class."""
        return self.image.frozen_from(stage)

    def unfreeze(self, stage: str | None = None) -> None:
        """Train the image's backbone from one of its stages on; see the base class."""
        self.image.unfreeze(stage)

    def load_pretrained(self) -> LoadReport | None:
        """Load the weights of the image's backbone."""
        return self.image.load_pretrained()

    def named_weights(self, name: str) -> NamedWeights:
        """There are none of both."""
        raise UserError(f"ImageAndTable has no weights but those of its image. Found {name}")
