"""The base class of backbones of tables, whose inputs are numbers and categories."""

from abc import abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.features import FeatureSpec, MapSpec
from mtl_lightning.models.inputs import CATEGORIES, NUMBERS, Inputs, InputSpecs, is_table
from mtl_lightning.models.weights import NamedWeights
from mtl_lightning.system.errors import UserError

FIRST = "embedding"
"""The name of the stage that reads the columns."""


class TableBackbone(Backbone):
    """Maps the columns of a table to features: an embedding, then the stages of a subclass.

    All columns enter as one tensor, see `Columns`, so that rows do not mix and each stage maps one
    tensor to one. The only feature map has one cell, (B, F, 1, 1).

    Args:
        blocks: The stages after the embedding, in order, by name.
        trainable_from: See `Backbone`.
    """

    reads: ClassVar[tuple[str, ...]] = (NUMBERS, CATEGORIES)

    members: int = 1
    """The members of an ensemble whose features a vector holds, see `FeatureSpec`."""

    def __init__(self, blocks: Mapping[str, nn.Module], trainable_from: str | None) -> None:
        trunk = nn.Sequential(nn.Identity(), *blocks.values())
        names = [FIRST, *blocks]
        stages = {name: [module] for name, module in zip(names, trunk, strict=True)}
        super().__init__(trunk, stages, None, "none", "avg", trainable_from)

    @abstractmethod
    def embedding(self, columns: "Columns") -> nn.Module:
        """Make the first stage: (B, `Columns.width`) to what the next stage takes."""

    def build(self, inputs: InputSpecs) -> None:
        """Make the embedding.

        Raises:
            UserError: If there are no columns.
        """
        if not is_table(inputs):
            raise UserError(f"{self.title} reads columns of tables; name them in data.inputs")
        self.columns = Columns.of(inputs)
        self.trunk.set_submodule("0", self.embedding(self.columns))
        for parameter in self._parameters_in(self._frozen):
            parameter.requires_grad_(False)
        self.train(self.training)

    def prepare(self, inputs: Inputs) -> Tensor:
        """Return all columns as one tensor, see `Columns.pack`."""
        return self.columns.pack(inputs, self.dtype)

    def stage_map(self, stage: str, values: Tensor) -> Tensor:  # noqa: ARG002 - for subclasses
        """Turn (B, F) into a map of one cell."""
        return values[:, :, None, None]

    def feature_map(self, images: Tensor) -> Tensor:
        """Run the trunk on packed columns: (B, width) to (B, F, 1, 1)."""
        features: Tensor = self.trunk(images)
        return features[:, :, None, None]

    def vector(self, inputs: Inputs) -> Tensor:
        """Return the features of columns, (B, F)."""
        return self.feature_map(self.prepare(inputs)).flatten(1)

    def describe(self, inputs: InputSpecs) -> FeatureSpec:
        """Describe the features: a vector, and the same as a map of one cell."""
        last, pooled = self._dry_run(inputs)
        last_map = MapSpec(last.shape[1], (1, 1), (1, 1))
        return FeatureSpec(pooled.shape[1], self.last_stage, last_map, members=self.members)

    def named_weights(self, name: str) -> NamedWeights:
        """There are none: each table has columns of its own."""
        raise UserError(f"{self.title} has no pretrained weights. Found {name}")


class Columns:
    """The columns of a table as one tensor: numbers, which of them are missing, codes.

    Args:
        numbers: The number of numbers, N.
        sizes: The number of codes of each category; 0 stands for missing, 1 for unknown.
        edges: The ends of intervals of each number, see `InputSpec`.
    """

    def __init__(
        self, numbers: int, sizes: tuple[int, ...], edges: tuple[tuple[float, ...], ...] = ()
    ) -> None:
        self.numbers = numbers
        self.sizes = sizes
        self.edges = edges

    @classmethod
    def of(cls, inputs: InputSpecs) -> "Columns":
        """Return the columns among the specified inputs."""
        numbers = inputs[NUMBERS].shape[0] if NUMBERS in inputs else 0
        edges = inputs[NUMBERS].edges if NUMBERS in inputs else ()
        return cls(numbers, inputs[CATEGORIES].sizes if CATEGORIES in inputs else (), edges)

    @property
    def width(self) -> int:
        """The width of the tensor: 2 N + C."""
        return 2 * self.numbers + len(self.sizes)

    def pack(self, inputs: Inputs, dtype: torch.dtype) -> Tensor:
        """Return ``(B, width)``: numbers (0 where missing), their absence (0 or 1), and codes.

        It is float32 at least, which holds every code.
        """
        dtype, parts = torch.promote_types(dtype, torch.float32), []
        if self.numbers:
            numbers = inputs[NUMBERS]
            missing = numbers.isnan()
            parts += [numbers.masked_fill(missing, 0).to(dtype), missing.to(dtype)]
        if self.sizes:
            parts.append(inputs[CATEGORIES].to(dtype))
        return torch.cat(parts, dim=1)


def package_of_extra(title: str, name: str) -> Any:
    """Import a package of the extra ``tables``.

    Args:
        title: The backbone that needs it.
        name: The package.

    Raises:
        UserError: If it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f"{title}: its package is not installed ({name}): pip install 'mtl-lightning[tables]'"
        ) from error
